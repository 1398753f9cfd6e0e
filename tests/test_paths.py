"""Full names on a system, and paths below the root that a member has in its group."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.model import Member, Replica
from planner.paths import ancestors, dataset_of, is_internal, is_set_aside, path_of, pool_imported, pool_of
from planner.steps import action_id


def member(root: str | None, *datasets: str) -> Member:
    return Member("id", "host", root, {name: Replica(name) for name in datasets})


@pytest.mark.parametrize(
    ("root", "dataset", "path"),
    [
        ("tank", "tank/data", "data"),
        ("tank", "tank", ""),
        ("vault/nas", "vault/nas/a/b", "a/b"),
        ("vault/nas", "vault/nas", ""),
        ("vault/nas", "vault", None),
        ("vault/nas", "vault/nastier", None),
        ("tank", "tanker/data", None),
        (None, "tank/data", "tank/data"),
    ],
)
def test_a_path_is_what_lies_below_the_root(root: str | None, dataset: str, path: str | None) -> None:
    assert path_of(member(root), dataset) == path
    if path is not None:
        assert dataset_of(member(root), path) == dataset


names = st.lists(st.sampled_from(["a", "b", "c c"]), min_size=1, max_size=4).map("/".join)


@settings(deadline=None)
@given(st.none() | names, names)
def test_every_path_leads_back(root: str | None, path: str) -> None:
    assert path_of(member(root), dataset_of(member(root), path)) == path


def test_names_above() -> None:
    assert ancestors("a/b/c") == ("a", "a/b")
    assert ancestors("a") == ()
    assert pool_of("a/b/c") == "a"


@pytest.mark.parametrize(
    ("root", "datasets", "imported"),
    [
        ("tank/a", ["tank/b"], True),
        ("tank/a", ["tanker/a"], False),
        ("tank", [], False),
        (None, ["any"], True),
        (None, [], False),
    ],
)
def test_a_pool_is_imported_when_anything_of_it_is_listed(
    root: str | None, datasets: list[str], imported: bool
) -> None:
    assert pool_imported(member(root, *datasets)) is imported


def test_a_dataset_can_be_asked_for_instead_of_the_root() -> None:
    assert pool_imported(member(None, "tank"), "tank/data")
    assert not pool_imported(member(None, "tank"), "usb/data")


@pytest.mark.parametrize(
    ("name", "aside"),
    [
        ("tank/data.aside-0123abcd", True),
        ("tank/data.aside-0123abcd/kid", True),
        ("tank/data.aside-0123abc", False),
        ("tank/data.aside-0123abcde", False),
        ("tank/data.aside", False),
    ],
)
def test_what_was_set_aside_is_known_by_its_name(name: str, aside: bool) -> None:
    assert is_set_aside(name) is aside


def test_zfs_marks_its_own_datasets() -> None:
    assert is_internal("tank/data/%recv")
    assert not is_internal("tank/data")


def test_an_action_id_tells_apart_all_that_it_is_made_of() -> None:
    facts = ["group", "path", "target", "sync", "1", "2"]
    ids = {action_id(*facts)}  # type: ignore[arg-type]
    for place in range(len(facts)):
        changed = [fact + "x" if at == place else fact for at, fact in enumerate(facts)]
        ids.add(action_id(*changed))  # type: ignore[arg-type]
    assert len(ids) == 7
    assert action_id("g", "p", "t", "sync", None, "1") != action_id("g", "p", "t", "sync", "1", None)
    assert action_id("g", "p", "t", "create", None, "1") == "fde01c0f-26d0-52d1-b5e7-7dfa2c4c7962"
