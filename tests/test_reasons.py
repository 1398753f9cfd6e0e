"""Every sentence that the planner says to a person, in golden/reasons.txt: read it as somebody who runs a NAS at home.

`pytest tests/test_reasons.py --rewrite-golden` writes it anew; the difference is then read.
"""

import re
from pathlib import Path

import pytest

from tests.reason_cases import cases, said
from tests.sentences import templates

GOLDEN = Path(__file__).parent / "golden" / "reasons.txt"


def shown() -> str:
    """The cases with what is said about each; what was said of an earlier one is left out."""
    known: set[str] = set()
    lines: list[str] = []
    for case in cases():
        fresh = {sentence: what for what, sentence in reversed([*said(case)]) if sentence not in known}
        known.update(fresh)
        if fresh:
            lines += [case.title, *(f"  {what}: {sentence}" for sentence, what in reversed(fresh.items())), ""]
    return "\n".join(lines)


def test_the_sentences_are_those_that_were_read(request: pytest.FixtureRequest) -> None:
    text = shown()
    if request.config.getoption("--rewrite-golden"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), "run pytest tests/test_reasons.py --rewrite-golden, and read the difference"


@pytest.mark.parametrize(("where", "pattern"), list(templates()))
def test_every_sentence_of_the_planner_is_among_them(where: str, pattern: re.Pattern[str]) -> None:
    assert pattern.search(GOLDEN.read_text()), f"no case makes the planner say what stands in {where}"
