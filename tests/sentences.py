"""The sentences that the planner's source can say, as patterns: what is written in braces may be anything."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PLANNER = Path(__file__).parent.parent / "planner"
SILENT = {"alerts.py", "commands.py", "names.py", "resume.py"}  # these have tests of their own for what they say


def templates() -> Iterator[tuple[str, re.Pattern[str]]]:
    """Where each sentence stands, and what it looks like."""
    for file in sorted(PLANNER.glob("*.py")):
        if file.name not in SILENT:
            for line, parts in sentences_in(ast.parse(file.read_text())):
                yield f"{file.name}:{line}", re.compile(".+".join(re.escape(part) for part in parts))


def sentences_in(tree: ast.Module) -> Iterator[tuple[int, list[str]]]:
    """Each text of three words and more, in parts; docstrings and what asserts say are none."""
    silent = {id(each) for node in ast.walk(tree) for each in _silent(node)}
    for node in ast.walk(tree):
        if id(node) in silent or not isinstance(node, ast.JoinedStr | ast.Constant):
            continue
        parts = _parts(node)
        if len(" ".join(parts).split()) >= 3:
            yield node.lineno, parts


def _silent(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Expr(value=ast.Constant() as docstring):
            yield docstring
        case ast.Assert(msg=ast.AST() as message):
            yield from ast.walk(message)
        case ast.Raise(exc=ast.AST() as error):
            yield from ast.walk(error)
        case ast.JoinedStr(values=values):  # its parts are no sentences of their own
            yield from (value for value in values if isinstance(value, ast.Constant))


def _parts(node: ast.JoinedStr | ast.Constant) -> list[str]:
    """The text between what changes."""
    values = node.values if isinstance(node, ast.JoinedStr) else [node]
    parts = [""]
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            first, *more = value.value.split("{}")
            parts[-1] += first
            parts += more
        elif isinstance(value, ast.FormattedValue):
            parts.append("")
    return parts
