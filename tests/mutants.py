"""Each rule of planning, conflicts and deleting, broken on purpose: which test notices?

    python -m tests.mutants [--first N] [--rules TEXT] [--worlds N] [PYTEST ARGUMENTS]

Each of tests/mutants.txt is tried in a copy of this checkout, by default with every small case and the simulated worlds
(the first N of them), which know of no single case by name. A rule that these do not notice is then tried with
UNIT_TESTS. A line for each says which test failed first; the exit status is 1 if one survived everything.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.test_simulation import AT_ONCE, SEEDS

HERE = Path(__file__).parent.parent
LIST = HERE / "tests/mutants.txt"
WORLDS = "tests/test_simulation.py::test_worlds"
SMALL_CASES = "tests/test_exhaustive.py"
UNIT_TESTS = tuple(
    f"tests/test_{name}.py"
    for name in (
        *(
            "histories",
            "plan",
            "plan_obeyed",
            "plan_held_back",
            "plan_tokens",
            "plan_corners",
            "remedies_corners",
            "prune_corners",
            "commands",
            "plan_real",
            "encryption",
            "other_names",
        ),
        *("cells", "conflicts", "resolutions", "resolving", "decisions", "remedies", "discards", "panics", "failover"),
        *("prune", "mirror", "credits", "healing", "claims", "actions", "inventories", "sync", "topologies", "reasons"),
        *("outlines", "past", "replicas", "alerts", "guards"),
    )
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A rule, and the words of a module that stand for it, once as they are and once with the rule broken."""

    rule: str
    module: str
    right: str
    wrong: str

    def broken(self, text: str) -> str:
        """The module's text without the rule. Raises ValueError where the list is not in step with the code."""
        if text.count(self.right) != 1:
            raise ValueError(f"{self.module} has it {text.count(self.right)} times: {self.right}")
        return text.replace(self.right, self.wrong)


def mutants() -> list[Mutant]:
    """The list: under a module's name, a rule after "#", then the lines with "-" and those with "+" in their place."""
    found: list[Mutant] = []
    for section in re.split(r"^== ", LIST.read_text(), flags=re.M)[1:]:
        module, *rules = re.split(r"^# ", section, flags=re.M)
        for each in rules:
            rule, *lines = each.rstrip("\n").split("\n")
            right, wrong = ("\n".join(line[1:] for line in lines if line.startswith(sign)) for sign in "-+")
            found.append(Mutant(rule, module.strip(), right, wrong))
    return found


def first_failure(checkout: Path, arguments: tuple[str, ...]) -> str | None:
    """The test that fails first in a checkout; None if none does."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-rfE", *arguments]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    named = re.search(r"^(?:FAILED|ERROR) tests/test_(\S+)", done.stdout, flags=re.M)
    assert named, done.stdout + done.stderr
    return named[1]


def tried(mutant: Mutant, checkout: Path, suites: tuple[tuple[str, ...], ...]) -> str | None:
    """The test that notices a mutant."""
    module = checkout / mutant.module
    text = module.read_text()
    module.write_text(mutant.broken(text))
    try:
        return next(filter(None, (first_failure(checkout, suite) for suite in suites)), None)
    finally:
        module.write_text(text)


def main() -> int:
    """Try the mutants, and say which test notices each."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("--first", type=int, default=0, help="the number of the first one")
    parser.add_argument("--rules", default="", help="only those with these words in them")
    parser.add_argument("--worlds", type=int, default=SEEDS, help="how many are simulated, a multiple of ten")
    options, arguments = parser.parse_known_args()
    worlds = [f"{WORLDS}[{first}]" for first in range(0, options.worlds, AT_ONCE)]
    suites = (tuple(arguments),) if arguments else ((SMALL_CASES, *worlds), UNIT_TESTS)
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "checkout"
        shutil.copytree(HERE, checkout, ignore=shutil.ignore_patterns(".*", "__pycache__", "data.saved"))
        for number, mutant in enumerate(mutants()):
            if number < options.first or options.rules not in mutant.rule:
                continue
            began = time.monotonic()
            caught = tried(mutant, checkout, suites)
            survived += caught is None
            took = f"{time.monotonic() - began:.0f} s"
            print(f"{number:3} {mutant.rule} -> {caught or 'SURVIVED'} ({took})", flush=True)
    print(f"{survived} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
