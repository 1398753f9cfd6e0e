"""What the mass-delete guard lets pass: snapshots that have moved, and those that the witness itself had destroyed."""

from typing import Any

import pytest

from tests.boxes import COLUMNS, empty_boxes, listing
from tests.test_actions import finish, start
from tests.witness import Agent, Client

MIRROR = """\
  - name: near
    hub: nas
    delete: mirror
    systems: {nas: {root: tank}, backup: {root: vault}}
"""


@pytest.fixture
def nas(client: Client) -> Agent:
    return client.register("nas")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("tank/a: 1 2 3 4", "tank/b: 5"), ("tank/a:", "tank/b: 1 2 3 4 5")),  # zfs promote
        (("tank/a: 1 2 3 4",), ("tank/a: 5", "tank/old: 1 2 3 4")),  # renamed, and made anew
        (("tank/a: 1 2 3 4", "tank/b: 5"), ("tank/b: 1 2 3 4 5",)),
        (("tank/a: 9", "tank/a.aside-0ee90421: 1 2 3 4"), ("tank/a: 9",)),  # which is its owner's to destroy
        (("tank/a: 9", "tank/a.aside-0ee90421/b: 1 2 3 4"), ("tank/a: 9", "tank/a.aside-0ee90421/b: 4")),
    ],
)
def test_what_has_moved_or_was_set_aside_is_not_lost(
    nas: Agent, before: tuple[str, ...], after: tuple[str, ...]
) -> None:
    nas.report(listing("tank:", *before), COLUMNS)
    assert nas.report(listing("tank:", *after), COLUMNS)["guarded"] == []


def test_what_is_lost_beside_what_has_moved_counts(nas: Agent) -> None:
    nas.report(listing("tank:", "tank/a: 1 2 3 4", "tank/b: 5"), COLUMNS)
    assert nas.report(listing("tank:", "tank/b: 2 3 4 5"), COLUMNS)["guarded"] == ["tank/a"]


@pytest.mark.parametrize("finished", [True, False])
def test_what_a_step_destroys_was_meant(make_witness: Any, finished: bool) -> None:
    boxes = empty_boxes(make_witness, MIRROR)
    nas, backup = boxes.nas, boxes.backup
    nas.report(listing("tank:", "tank/a: 1 2 3 4 5 6"), COLUMNS)
    backup.report(listing("vault:", "vault/a: 1 2 3 4 5 6"), COLUMNS)
    assert nas.report(listing("tank:", "tank/a: 6"), COLUMNS)["guarded"] == ["tank/a"]
    boxes.client.call("POST", f"/systems/{nas.id}/inventory/accept", {})
    action = boxes.action("vault/a", "delete")
    token = start(backup, action).json["lease_token"]
    if finished:
        finish(backup, action, token)
    assert backup.report(listing("vault:", "vault/a: 6"), COLUMNS)["guarded"] == []
    assert boxes.client.get("/conflicts")["conflicts"] == []


def test_what_goes_beside_what_a_step_destroys_counts(make_witness: Any) -> None:
    boxes = empty_boxes(make_witness, MIRROR)
    nas, backup = boxes.nas, boxes.backup
    nas.report(listing("tank:", "tank/a: 1 2 3 4 5 6"), COLUMNS)
    backup.report(listing("vault:", "vault/a: 1 2 3 4 5 6"), COLUMNS)
    nas.report(listing("tank:", "tank/a: 4 5 6"), COLUMNS)
    start(backup, boxes.action("vault/a", "delete"))
    assert backup.report(listing("vault:", "vault/a: "), COLUMNS)["guarded"] == ["vault/a"]
