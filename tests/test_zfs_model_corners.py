"""What the model was taught where it differed from real pools: what is done by half, and what is said otherwise."""

from contextlib import suppress

import pytest

from tests.zfs_model import Pools
from tests.zfs_values import Refused


def pools_with(*snapshots: str, encryption: str = "off") -> Pools:
    """tank/docs with some snapshots, each with data."""
    pools = Pools("with " + " ".join(snapshots))
    pools.create("tank")
    pools.create("tank/docs", encryption=encryption)
    for name in snapshots:
        pools.write("tank/docs", 1000)
        pools.snapshot("tank/docs", name)
    return pools


def names(pools: Pools) -> list[str]:
    return [snap.name for snap in pools.dataset("tank/docs").snapshots]


def test_a_rollback_that_a_hold_stops_has_destroyed_the_others() -> None:
    pools = pools_with("1", "2", "3", "4")
    pools.hold("tank/docs", "3", "keep")
    pools.bookmark("tank/docs", "4", "four")
    with pytest.raises(Refused, match="busy"):
        pools.rollback("tank/docs", "1", recursive=True)
    assert names(pools) == ["1", "3"]
    assert not pools.dataset("tank/docs").bookmarks


def test_a_destroy_that_a_hold_stops_has_destroyed_what_lay_below() -> None:
    pools = pools_with("1")
    pools.create("tank/docs/kid")
    pools.hold("tank/docs", "1", "keep")
    with pytest.raises(Refused, match="busy"):
        pools.destroy("tank/docs", recursive=True)
    assert [*pools.datasets] == ["tank", "tank/docs"]


def test_a_partial_state_keeps_the_newest_snapshot_rather_than_its_base() -> None:
    source, target = pools_with("1", "2", "3"), pools_with()
    target.receive("tank/copy", source.send("tank/docs", "1"))
    target.snapshot("tank/copy", "own")
    with suppress(Refused):
        target.receive("tank/copy", source.send("tank/docs", "2", "1").cut(0), resumable=True)
    with pytest.raises(Refused, match="busy"):
        target.destroy_snapshots("tank/copy", ["own"])
    target.destroy_snapshots("tank/copy", ["1"])


def test_what_broke_off_at_its_begin_is_not_dropped_under_its_children() -> None:
    source, target = pools_with("1"), pools_with()
    with suppress(Refused):
        target.receive("tank/copy", source.send("tank/docs", "1").cut(0), resumable=True)
    target.create("tank/copy/kid")
    with pytest.raises(Refused, match="cannot destroy 'tank/copy': dataset already exists"):
        target.abort("tank/copy")


def test_a_key_is_looked_for_before_a_bookmark_that_is_no_base() -> None:
    pools = pools_with("1", "2", encryption="aes-256-gcm")
    pools.bookmark("tank/docs", "2", "two")
    pools.dataset("tank/docs").key_loaded = False
    with pytest.raises(Refused, match="key must be loaded"):
        pools.send("tank/docs", "2", "#two")
    with pytest.raises(Refused, match="not an earlier snapshot"):
        pools.send("tank/docs", "1", "@2")
