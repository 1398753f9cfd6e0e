"""What OpenZFS (2.1.11) does not refuse, but panics at, is never planned: found by random operations on real pools."""

from dataclasses import replace

import pytest

from planner.resolutions import choose, resolution_steps
from tests.conflict_world import CONFLICT, NO_WORK, NOW, POLICY, decide, diverged, follow, members_of, obey, pick


@pytest.mark.parametrize(
    ("source", "loser"), [("aes-256-gcm", None), (None, "off"), (None, None), ("off", None), (None, "aes-256-gcm")]
)
def test_a_raw_clone_of_what_may_be_unencrypted_is_not_tried(source: str | None, loser: str | None) -> None:
    members = []
    for member, encryption in zip(members_of(diverged()), (source, loser), strict=True):
        held = replace(member.replicas["pool/root/data"], encryption=encryption)
        members.append(replace(member, replicas={**member.replicas, held.dataset: held}))
    raw = replace(POLICY, raw="always")
    option = choose(CONFLICT, "manual", "A", False, raw, members, NO_WORK, NOW)
    is_safe = source == "off" or loser == "aes-256-gcm"
    assert (option.steps == (), "report the column encryption" in str(option.refused)) == (not is_safe, not is_safe)


def test_a_bookmark_that_a_promote_would_bring_twice_is_named() -> None:
    hosts = diverged()
    option = pick(hosts)
    for step in option.steps[:2]:
        obey(step, hosts)
    hosts["B"].bookmark("pool/root/data.aside-0123abcd", "2", "mark")
    hosts["B"].bookmark("pool/root/data", "3", "mark")
    steps, [skip] = resolution_steps(decide(option), POLICY, members_of(hosts), NO_WORK, NOW)
    assert (steps, "both have a bookmark named mark" in skip.reason) == ((), True)
    hosts["B"].destroy_bookmark("pool/root/data", "mark")
    assert [step.type for step in follow(decide(option), POLICY, hosts)] == ["promote"]
    hosts["B"].bookmark("pool/root/data.aside-0123abcd", "X", "own")
    hosts["B"].bookmark("pool/root/data", "3", "own")  # once promoted, names are free again
    assert follow(decide(option), POLICY, hosts) == []
