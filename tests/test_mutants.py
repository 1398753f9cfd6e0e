"""The list of broken rules is in step with the code, and a broken rule is noticed."""

import ast
import shutil
from pathlib import Path

from tests.mutants import HERE, Mutant, mutants, tried


def test_every_rule_can_be_broken() -> None:
    listed = mutants()
    for mutant in listed:
        ast.parse(mutant.broken((HERE / mutant.module).read_text()))
    assert len({mutant.rule for mutant in listed}) == len(listed)


def test_who_notices_is_told_and_what_was_broken_is_whole_again(tmp_path: Path) -> None:
    (mutant,) = (mutant for mutant in mutants() if mutant.rule == "base: a bookmark is none")
    module = tmp_path / mutant.module
    module.parent.mkdir()
    shutil.copy(HERE / mutant.module, module)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_here.py").write_text(
        "def test_it() -> None:\n    assert 'self.marks.get' in open('planner/histories.py').read()\n"
    )
    harmless = Mutant("a word", mutant.module, "class History:", "class History :")
    assert tried(mutant, tmp_path, (("tests/test_here.py",),)) == "here.py::test_it"
    assert tried(harmless, tmp_path, (("tests/test_here.py",),)) is None
    assert module.read_text() == (HERE / mutant.module).read_text()
