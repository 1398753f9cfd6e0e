"""Advice and deletions where two facts meet: the last copy of anything, and the base of anything, stays."""

from dataclasses import replace
from typing import Any

import pytest

from planner import plan_group
from planner.model import Gone, Work
from tests.boxes import COLUMNS, empty_boxes, listing
from tests.pictures import NOW, draw, hub_policy, members_of

# --- a spoke becomes the hub ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hub_of", "drawn"),
    [((), "nothing"), (("other",), "nothing"), (("other", "g"), "A delete 1 2 3, C delete 1 2 3")],
)
def test_what_the_hub_let_go_as_a_spoke_is_kept_by_the_others(hub_of: tuple[str, ...], drawn: str) -> None:
    members = members_of("A: 1 2 3 4 5 6 B: 4 5 6 C: 1 2 3 4 5 6")
    work = Work(gone=tuple(Gone("B", "tank/data", guid, hub_of=hub_of) for guid in "123"))
    policy = replace(hub_policy(delete="mirror", hub="B"), include=("data",))
    assert draw(plan_group(policy, members, work, NOW), usual="B") == drawn


@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_failover_deletes_nothing_that_the_new_hub_pruned_before(make_witness: Any, one_by_one: bool) -> None:
    boxes = empty_boxes(make_witness, "  - name: far\n    systems: {offsite: , laptop: }\n")
    nas, backup = boxes.nas, boxes.backup
    settings = {"name": "both", "delete": "mirror", "members": {nas.id: {"root": "tank"}, backup.id: {"root": "vault"}}}
    group = boxes.client.call("POST", "/sync-groups", {**settings, "hub_system_id": nas.id}).json["id"]

    def let_go(*left: str) -> None:
        if one_by_one:
            known = boxes.client.get(f"/snapshots?system_id={backup.id}&limit=1000")
            for gone in (each for each in known if each["name"][1:] not in left):
                assert backup.call("DELETE", f"/snapshots/{gone['id']}").status_code == 204
        else:
            backup.report(listing("vault:", f"vault/a: {' '.join(left)}"), COLUMNS)

    def deleted() -> list[tuple[str, list[str]]]:
        actions = boxes.client.get(f"/sync/{group}/instructions")["actions"]
        found = [
            (each["target_dataset"], each["expected_guids"]) for each in actions if each["action_type"] == "delete"
        ]
        return [(dataset, [guid[-1] for guid in guids]) for dataset, guids in found]

    nas.report(listing("tank:", "tank/a: 1 2 3 4 5 6"), COLUMNS)
    backup.report(listing("vault:", "vault/a: 1 2 3 4 5 6"), COLUMNS)
    let_go("3", "4", "5", "6")
    boxes.client.call("PUT", f"/sync-groups/{group}", {"hub_system_id": backup.id})
    assert deleted() == []
    let_go("4", "5", "6")
    assert deleted() == ([] if one_by_one else [("tank/a", ["3"])]), (
        "what it destroyed as the hub, not what was forgotten"
    )
