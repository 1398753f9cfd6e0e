"""Imports point one way, functions fit a screen, modules stay short, and nothing is left for later."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.checkout import ROOT, files_in

# What each part may import of ours, beside itself. The planner and the store have never met.
MAY_IMPORT = {
    "planner": (),
    "config": (),
    "store": ("config",),
    "handlers": ("planner", "store", "config"),
    "cli": ("handlers", "store", "config"),
    "zfs_sync": ("cli", "handlers", "store", "config"),
}

# Packages that only some parts know.
ONLY_IN = {
    "bottle": ("handlers",),
    "prometheus_client": ("handlers",),
    "apprise": ("handlers",),
    "tinydb": ("store",),
    "filelock": ("store",),
    "psycopg": ("store",),
    "psycopg_pool": ("store",),
    "rich": ("cli",),
    "gunicorn": ("cli",),
    "yaml": ("config",),
    "tomllib": ("config",),
    "platformdirs": ("config",),
}

# What a cold start does without: imported where it is used.
LATE = ("yaml", "rich", "gunicorn", "cryptography", "prometheus_client", "platformdirs", "psycopg", "apprise", "shtab")

CODE = sorted(path for part in MAY_IMPORT for path in (ROOT / part).rglob("*.py")) + sorted(ROOT.glob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
DEPLOYED = files_in("deploy")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def part_of(path: Path) -> str:
    """The folder or module at the top that a file belongs to."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path, top_level_only: bool = False) -> Iterator[str]:
    """The full name of each module that a file imports, `from handlers import sync` as handlers.sync."""
    tree = parsed(path)
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            here = path.relative_to(ROOT).with_suffix("").parts
            base = (
                ".".join([*here[: len(here) - node.level], *filter(None, [node.module])]) if node.level else node.module
            )
            yield from (f"{base}.{each.name}" for each in node.names)


def test_every_part_at_the_top_has_its_rule() -> None:
    assert {part_of(path) for path in CODE} <= set(MAY_IMPORT)
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders <= {*MAY_IMPORT, "tests"}


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    part = part_of(path)
    allowed = {part, *MAY_IMPORT[part]}
    ours = {name for name in imports(path) if name.split(".")[0] in {*MAY_IMPORT, "tests"}}
    assert [name for name in sorted(ours) if name.split(".")[0] not in allowed] == []


@pytest.mark.parametrize("path", [path for path in CODE if part_of(path) == "planner"], ids=name_of)
def test_the_planner_imports_the_standard_library_and_itself(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)}
    assert tops - sys.stdlib_module_names <= {"planner"}


# A clock, I/O or randomness would make the same input give another plan.
@pytest.mark.parametrize("path", [path for path in CODE if part_of(path) == "planner"], ids=name_of)
def test_the_planner_has_no_clock_no_io_and_no_randomness(path: Path) -> None:
    impure = {"os", "io", "pathlib", "random", "secrets", "socket", "subprocess", "time", "threading", "logging", "sys"}
    assert {name.split(".")[0] for name in imports(path)} & impure == set()
    called = [node.func for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
    functions = {each.id for each in called if isinstance(each, ast.Name)}
    assert functions & {"open", "print", "input", "hash", "id"} == set()
    methods = {each.attr for each in called if isinstance(each, ast.Attribute)}
    assert methods & {"now", "utcnow", "today", "uuid1", "uuid4"} == set()


# What a command shows is what the API answers: it asks the endpoints, and looks at no handler or document itself.
@pytest.mark.parametrize("path", [path for path in CODE if part_of(path) == "cli"], ids=name_of)
def test_what_a_person_types_reaches_the_handlers_by_their_routes(path: Path) -> None:
    names = "routes local keys meter alerts notify tick limiting request errors words"
    doors = tuple(f"handlers.{name}" for name in names.split())
    ours = {name for name in imports(path) if name.split(".")[0] == "handlers"}
    assert {name for name in ours if not name.startswith(doors)} == set()


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_packages_stay_where_they_belong(path: Path) -> None:
    tops = {name.split(".")[0] for name in imports(path)}
    assert [name for name, parts in ONLY_IN.items() if name in tops and part_of(path) not in parts] == []


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_only_the_binding_knows_bottles_request_and_response(path: Path) -> None:
    if name_of(path) == "handlers/binding.py":
        return
    assert {name for name in imports(path) if name in ("bottle.request", "bottle.response")} == set()
    attributes = {ast.unparse(node) for node in ast.walk(parsed(path)) if isinstance(node, ast.Attribute)}
    assert attributes & {"bottle.request", "bottle.response"} == set()


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_what_a_cold_start_does_without_is_imported_where_it_is_used(path: Path) -> None:
    top = set(imports(path, top_level_only=True))
    if name_of(path).startswith(("store/postgres/", "cli/worker.py", "cli/master.py")):
        return  # late itself, as the next line says of all others
    assert {name for name in top if name.startswith(LATE) or name.startswith("store.postgres")} == set()


@pytest.mark.parametrize("path", [*CODE, *TESTS], ids=name_of)
def test_functions_fit_a_screen_and_modules_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500
    functions = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > 60} == {}


@pytest.mark.parametrize("path", [*CODE, *TESTS], ids=name_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(parsed(path)) or not parsed(path).body


@pytest.mark.parametrize("path", [*CODE, *TESTS, *DEPLOYED], ids=name_of)
def test_nothing_is_left_for_later(path: Path) -> None:
    words = "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "NotImplemented" + "Error", "xfa" + "il"))
    assert re.findall(rf"\b({words})\b", path.read_text(errors="replace")) == []
