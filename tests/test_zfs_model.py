"""The model of ZFS refuses and accepts what real pools did (OpenZFS 2.1.11)."""

from dataclasses import replace

import pytest

from tests.zfs_model import Pools
from tests.zfs_values import Refused


@pytest.fixture
def nas() -> Pools:
    """A source: tank/docs with days 1 to 3, each with data."""
    pools = Pools("nas")
    pools.create("tank")
    pools.create("tank/docs")
    for day in (1, 2, 3):
        pools.write("tank/docs", 1000 * day)
        pools.snapshot("tank/docs", f"day{day}")
    return pools


@pytest.fixture
def backup(nas: Pools) -> Pools:
    """A target: vault/docs has received days 1 and 2."""
    pools = Pools("backup")
    pools.create("vault")
    pools.receive("vault/docs", nas.send("tank/docs", "day1"))
    pools.receive("vault/docs", nas.send("tank/docs", "day2", "day1"))
    return pools


def test_an_increment_brings_the_same_contents_under_the_same_guid(nas: Pools, backup: Pools) -> None:
    backup.receive("vault/docs", nas.send("tank/docs", "day3", "day2"))
    assert backup.guids("vault/docs") == nas.guids("tank/docs")
    assert backup.find("vault/docs@day3").blocks == nas.find("tank/docs@day3").blocks
    assert backup.written("vault/docs") == 0


def test_intermediates_come_along_and_what_is_there_is_stepped_over(nas: Pools, backup: Pools) -> None:
    backup.receive("vault/docs", nas.send("tank/docs", "day3", "day1", intermediates=True))
    assert [snap.name for snap in backup.dataset("vault/docs").snapshots] == ["day1", "day2", "day3"]


def test_later_snapshots_of_its_own_are_harmless_while_empty(nas: Pools, backup: Pools) -> None:
    backup.snapshot("vault/docs", "autosnap")
    backup.receive("vault/docs", nas.send("tank/docs", "day3", "day2"))
    assert [snap.name for snap in backup.dataset("vault/docs").snapshots] == ["day1", "day2", "autosnap", "day3"]


@pytest.mark.parametrize("snapshots_it", [True, False])
def test_a_target_written_to_is_refused(nas: Pools, backup: Pools, snapshots_it: bool) -> None:
    backup.write("vault/docs", 1)
    if snapshots_it:
        backup.snapshot("vault/docs", "edited-here")
    with pytest.raises(Refused, match="destination vault/docs has been modified\nsince most recent snapshot"):
        backup.receive("vault/docs", nas.send("tank/docs", "day3", "day2"))


def test_a_base_may_be_renamed_on_either_side_or_be_a_bookmark(nas: Pools, backup: Pools) -> None:
    backup.rename_snapshot("vault/docs", "day2", "before-upgrade")
    nas.bookmark("tank/docs", "day2", "keep")
    nas.destroy_snapshots("tank/docs", ["day2"])
    with pytest.raises(Refused, match="cannot be sent from a bookmark"):
        nas.send("tank/docs", "day3", "#keep", intermediates=True)
    backup.receive("vault/docs", nas.send("tank/docs", "day3", "#keep"))
    assert backup.guids("vault/docs")[-1] == nas.guids("tank/docs")[-1]


def test_a_base_the_target_lacks_is_refused(nas: Pools, backup: Pools) -> None:
    backup.destroy_snapshots("vault/docs", ["day2"])
    backup.rollback("vault/docs", "day1")
    with pytest.raises(Refused, match="does not\nmatch incremental source"):
        backup.receive("vault/docs", nas.send("tank/docs", "day3", "day2"))


def test_a_name_that_is_taken_stops_a_stream_even_when_empty(nas: Pools, backup: Pools) -> None:
    backup.snapshot("vault/docs", "day3")
    with pytest.raises(Refused, match="already exists"):
        backup.receive("vault/docs", nas.send("tank/docs", "day3", "day2"))
    nas.snapshot("tank/docs", "day4")
    backup.receive("vault/docs", nas.send("tank/docs", "day4", "day2"))


def test_a_full_stream_needs_an_absent_dataset_and_a_parent(nas: Pools, backup: Pools) -> None:
    full = nas.send("tank/docs", "day1")
    with pytest.raises(Refused, match="exists\nmust specify -F"):
        backup.receive("vault/docs", full)
    with pytest.raises(Refused, match="does not exist"):
        backup.receive("vault/none/docs", full)
    with pytest.raises(Refused, match="destination 'vault/none' does not exist"):
        backup.receive("vault/none", nas.send("tank/docs", "day3", "day2"))


def test_a_broken_stream_resumes_where_it_stopped(nas: Pools, backup: Pools) -> None:
    nas.write("tank/docs", 5)
    nas.write("tank/docs", 6)
    nas.snapshot("tank/docs", "day4")
    with pytest.raises(Refused, match="Partially received snapshot is saved"):
        backup.receive("vault/docs", nas.send("tank/docs", "day4", "day2").cut(2), resumable=True)
    with pytest.raises(Refused, match="partially-complete state"):
        backup.receive("vault/docs", nas.send("tank/docs", "day3", "day2"))
    with pytest.raises(Refused, match="busy"):
        backup.rollback("vault/docs", "day1", recursive=True)
    backup.rollback("vault/docs", "day2")  # what it began on stays
    rest = nas.resume(backup.token("vault/docs") or "")
    assert [block[1] for block in rest.parts[0].blocks] == [6]
    backup.receive("vault/docs", rest, resumable=True)
    assert backup.token("vault/docs") is None
    assert backup.find("vault/docs@day4").blocks == nas.find("tank/docs@day4").blocks


def test_a_broken_first_stream_leaves_a_dataset_without_snapshots_until_aborted(nas: Pools) -> None:
    backup = Pools("backup")
    backup.create("vault")
    full = nas.send("tank/docs", "day3")
    with pytest.raises(Refused):
        backup.receive("vault/docs", full.cut(1))
    assert "vault/docs" not in backup.datasets
    with pytest.raises(Refused):
        backup.receive("vault/docs", full.cut(1), resumable=True)
    assert backup.guids("vault/docs") == []
    backup.abort("vault/docs")
    assert "vault/docs" not in backup.datasets


def test_raw_streams_keep_their_iv_sets_and_plain_ones_do_not() -> None:
    nas = Pools("nas")
    nas.create("tank", encryption="aes-256-gcm")
    nas.snapshot("tank", "one")
    nas.write("tank", 1)
    nas.snapshot("tank", "two")
    backup = Pools("backup")
    backup.create("vault")
    backup.receive("vault/raw", nas.send("tank", "one", raw=True))
    backup.receive("vault/plain", nas.send("tank", "one"))
    assert backup.dataset("vault/plain").encryption == "off"
    increment = nas.send("tank", "two", "one", raw=True)
    with pytest.raises(Refused, match="on top of existing unencrypted dataset"):
        backup.receive("vault/plain", increment)
    with pytest.raises(Refused, match="on top of existing unencrypted dataset"):
        backup.receive("vault/plain", replace(increment, parts=(replace(increment.parts[0], to_name="tank@one"),)))
    with pytest.raises(Refused, match="PANIC"):
        backup.receive("vault/clone", increment, origin="vault/plain@one")
    backup.snapshot("vault/raw", "of-its-own")
    with pytest.raises(Refused, match="has been modified"):
        backup.receive("vault/raw", increment)
    backup.destroy_snapshots("vault/raw", ["of-its-own"])
    backup.receive("vault/raw", increment)
    assert backup.find("vault/raw@two").ivsetguid == nas.find("tank@two").ivsetguid

    offsite = Pools("offsite")
    offsite.create("pool1", encryption="aes-256-gcm")
    offsite.receive("pool1/tank", nas.send("tank", "one"))
    with pytest.raises(Refused, match="IV set guid mismatch"):
        offsite.receive("pool1/tank", increment)
    nas.create("plain")
    nas.snapshot("plain", "one")
    for how in ({"embedded": True}, {"raw": True}):  # -w implies -e
        with pytest.raises(Refused, match="embedded"):
            offsite.receive("pool1/other", nas.send("plain", "one", **how))
    offsite.receive("pool1/other", nas.send("tank", "one", embedded=True))  # encrypted blocks are never embedded


def test_an_empty_raw_increment_counts_as_written_and_is_no_modification(nas: Pools) -> None:
    nas.create("tank/secret", encryption="aes-256-gcm")
    backup = Pools("backup")
    backup.create("vault")
    for snap, base in (("one", None), ("two", "one"), ("three", "two")):
        nas.snapshot("tank/secret", snap)
        backup.receive("vault/secret", nas.send("tank/secret", snap, base, raw=True))
    assert backup.listing(("name", "written")).count("\t8192\n") == 2
    assert backup.written("vault/secret") == 0


def test_a_diverged_target_is_set_aside_and_cloned_from_its_common_past(nas: Pools, backup: Pools) -> None:
    backup.create("vault/docs/kid")
    backup.write("vault/docs", 7)
    mine = backup.snapshot("vault/docs", "edited-here")
    backup.rename("vault/docs", "vault/docs.aside")
    backup.receive("vault/docs", nas.send("tank/docs", "day3", "day2"), origin="vault/docs.aside@day2")
    backup.promote("vault/docs")
    backup.rename("vault/docs.aside/kid", "vault/docs/kid")
    assert backup.guids("vault/docs") == nas.guids("tank/docs")
    assert backup.guids("vault/docs.aside") == [mine.guid]
    assert backup.dataset("vault/docs.aside").origin == "vault/docs@day2"
    with pytest.raises(Refused, match="dependent clones"):
        backup.destroy_snapshots("vault/docs", ["day2"])


def test_a_promote_takes_older_bookmarks_along(nas: Pools) -> None:
    nas.receive("tank/clone", nas.send("tank/docs", "day3", "day2"), origin="tank/docs@day2")
    for day in ("day1", "day2", "day3"):
        nas.bookmark("tank/docs", day, day)
    nas.bookmark("tank/clone", "day3", "day2")
    with pytest.raises(Refused, match="PANIC"):
        nas.promote("tank/clone")
    nas.destroy_bookmark("tank/clone", "day2")
    nas.bookmark("tank/clone", "day3", "own")
    nas.promote("tank/clone")
    assert [mark.name for mark in nas.dataset("tank/clone").bookmarks] == ["day1", "day2", "own"]
    assert [mark.name for mark in nas.dataset("tank/docs").bookmarks] == ["day3"]


def test_a_promote_makes_the_clone_the_encryption_root_and_forgets_the_key(nas: Pools) -> None:
    nas.create("tank/secret", encryption="aes-256-gcm")
    nas.create("tank/secret/kid")
    nas.create("tank/clones")
    for day in ("one", "two"):
        nas.write("tank/secret", 100)
        nas.snapshot("tank/secret", day)
    nas.receive("tank/clones/secret", nas.send("tank/secret", "two", "one"), origin="tank/secret@one")
    assert nas.encryption_root("tank/clones/secret") == "tank/secret"
    nas.promote("tank/clones/secret")
    both = ("tank/secret", "tank/secret/kid", "tank/clones/secret")
    assert {nas.encryption_root(name) for name in both} == {"tank/clones/secret"}
    assert not any(nas.dataset(name).key_loaded for name in both)
    with pytest.raises(Refused, match="Keys must be loaded for encryption root"):
        nas.load_key("tank/secret")
    nas.load_key("tank/clones/secret")
    assert all(nas.dataset(name).key_loaded for name in both)
    nas.rename("tank/secret", "tank/old")  # to where it has the same parent
    with pytest.raises(Refused, match="outside of its encryption root"):
        nas.rename("tank/old", "tank/clones/old")


def test_rollback_takes_younger_bookmarks_along(nas: Pools) -> None:
    nas.bookmark("tank/docs", "day1", "one")
    nas.bookmark("tank/docs", "day3", "three")
    with pytest.raises(Refused, match="more recent snapshots"):
        nas.rollback("tank/docs", "day1")
    nas.rollback("tank/docs", "day1", recursive=True)
    assert [mark.name for mark in nas.dataset("tank/docs").bookmarks] == ["one"]
    assert nas.written("tank/docs") == 0


def test_a_held_snapshot_stays(nas: Pools) -> None:
    nas.hold("tank/docs", "day1", "keep")
    with pytest.raises(Refused, match="tag already exists"):
        nas.hold("tank/docs", "day1", "keep")
    with pytest.raises(Refused, match="busy"):
        nas.destroy_snapshots("tank/docs", ["day2", "day1"])
    assert len(nas.guids("tank/docs")) == 3
    nas.release("tank/docs", "day1", "keep")
    nas.destroy_snapshots("tank/docs", ["day2", "day1"])


@pytest.mark.parametrize("name", ["tank/a%b", "tank//a", "tank/..", "tank/" + "x" * 255, "tank/a@b", "9tank", "tank/ö"])
def test_an_illegal_name_is_refused(nas: Pools, name: str) -> None:
    with pytest.raises(Refused, match="invalid name"):
        nas.create(name)


def test_a_listing_looks_like_zfs_list(nas: Pools) -> None:
    nas.bookmark("tank/docs", "day2", "keep")
    nas.create("tank/docs old", "volume")
    rows = [line.split("\t") for line in nas.listing(("name", "type", "written", "readonly")).splitlines()]
    assert rows == [
        ["tank", "filesystem", "24576", "off"],
        ["tank/docs", "filesystem", "0", "off"],
        ["tank/docs@day1", "snapshot", "25576", "-"],
        ["tank/docs@day2", "snapshot", "2000", "-"],
        ["tank/docs@day3", "snapshot", "3000", "-"],
        ["tank/docs old", "volume", "24576", "off"],
        ["tank/docs#keep", "bookmark", "-", "-"],
    ]
    with pytest.raises(Refused, match="invalid property 'snapshots_changed'"):
        nas.listing(("name", "snapshots_changed"))


def test_a_base_is_an_earlier_snapshot_of_the_same_dataset_also_when_nothing_changed(nas: Pools) -> None:
    nas.snapshot("tank/docs", "day4")
    nas.create("tank/other")
    nas.receive("tank/other/copy", nas.send("tank/docs", "day3"))
    for base, end in (("day4", "day3"), ("day3", "day3"), ("tank/other/copy@day3", "day4")):
        with pytest.raises(Refused, match="not an earlier snapshot"):
            nas.send("tank/docs", end, base)
    nas.receive("tank/clone", nas.send("tank/docs", "day4", "day3"), origin="tank/docs@day3")
    assert nas.send("tank/clone", "day4", "tank/docs@day2").parts[0].from_guid == nas.find("tank/docs@day2").guid


def test_a_snapshot_that_is_there_already_is_read_past(nas: Pools, backup: Pools) -> None:
    stream = nas.send("tank/docs", "day2", "day1")
    backup.write("vault/docs", 1)
    backup.receive("vault/docs", stream)
    assert backup.guids("vault/docs") == nas.guids("tank/docs")[:2]
    with pytest.raises(Refused, match="failed to read from stream"):
        backup.receive("vault/docs", stream.cut(0), resumable=True)
    assert backup.token("vault/docs") is None
    nas.snapshot("tank/docs", "empty")
    backup.receive("vault/whole", nas.send("tank/docs", "day3"))
    backup.receive("vault/whole", nas.send("tank/docs", "empty", "day3"))
    with pytest.raises(Refused, match="failed to read from stream"):
        backup.receive("vault/whole", nas.send("tank/docs", "empty", "day3"))


@pytest.fixture
def cloned(nas: Pools) -> Pools:
    """The source with tank/clone, a clone of day2 that has two snapshots of its own."""
    nas.create("tank/spare")
    nas.receive("tank/clone", nas.send("tank/docs", "day3", "day2"), origin="tank/docs@day2")
    nas.write("tank/clone", 1)
    nas.snapshot("tank/clone", "own")
    return nas


def test_a_clones_stream_finds_its_origin_itself(cloned: Pools, backup: Pools) -> None:
    backup.receive("vault/first", cloned.send("tank/clone", "own", "tank/docs@day1"))
    assert backup.dataset("vault/first").origin == "vault/docs@day1"
    package = cloned.send("tank/clone", "own", "tank/docs@day2", intermediates=True)
    backup.receive("vault/clone", package, origin="vault/docs@day1")  # which zfs does not look at
    assert backup.dataset("vault/clone").origin == "vault/docs@day2"
    assert backup.guids("vault/clone") == cloned.guids("tank/clone")
    with pytest.raises(Refused, match="destination 'vault/docs' exists"):
        backup.receive("vault/docs", cloned.send("tank/clone", "own", "tank/docs@day2"))
    elsewhere = Pools("elsewhere")
    elsewhere.create("pool")
    with pytest.raises(Refused, match="local origin for clone pool/other does not exist"):
        elsewhere.receive("pool/other", cloned.send("tank/clone", "own", "tank/docs@day2"))


def test_what_a_clone_was_made_of_is_no_base(nas: Pools, backup: Pools) -> None:
    """As if `zfs clone` had made it: none of its own snapshots is left."""
    backup.receive("vault/clone", nas.send("tank/docs", "day2", "day1"), origin="vault/docs@day1")
    backup.rollback("vault/clone", "day2")
    backup.destroy_snapshots("vault/clone", ["day2"])
    with pytest.raises(Refused, match="most recent snapshot of vault/clone does not"):
        backup.receive("vault/clone", nas.send("tank/docs", "day2", "day1"))


def test_a_broken_clones_stream_resumes(cloned: Pools, backup: Pools) -> None:
    stream = cloned.send("tank/clone", "day3", "tank/docs@day2").cut(0)
    with pytest.raises(Refused, match="Partially received"):
        backup.receive("vault/clone", stream, resumable=True)
    token = backup.token("vault/clone")
    assert token
    backup.receive("vault/clone", cloned.resume(token), resumable=True)
    assert backup.dataset("vault/clone").origin == "vault/docs@day2"


def test_intermediates_of_no_clone_do_not_go_onto_an_origin(nas: Pools, backup: Pools) -> None:
    stream = nas.send("tank/docs", "day3", "day1", intermediates=True)
    with pytest.raises(Refused, match="incremental stream: destination 'vault/clone' does not exist"):
        backup.receive("vault/clone", stream, origin="vault/docs@day1")


def test_nothing_lies_below_a_volume(nas: Pools, backup: Pools) -> None:
    nas.create("tank/disk", "volume")
    nas.snapshot("tank/disk", "day1")
    with pytest.raises(Refused, match="canmount' does not apply"):
        backup.receive("vault/disk", nas.send("tank/disk", "day1"), properties={"canmount": "noauto"})
    backup.receive("vault/disk", nas.send("tank/disk", "day1"), properties={"readonly": "on"})
    for refused in (
        lambda: backup.create("vault/disk/below"),
        lambda: backup.rename("vault/docs", "vault/disk/docs"),
        lambda: backup.receive("vault/disk/docs", nas.send("tank/docs", "day1")),
    ):
        with pytest.raises(Refused, match="is not a filesystem"):
            refused()


def test_a_full_pool_keeps_what_came_if_it_can_be_resumed(nas: Pools, backup: Pools) -> None:
    nas.write("tank/docs", 50_000)
    nas.snapshot("tank/docs", "day4")
    backup.capacity["vault"] = 24576 * 2 + 1000 + 2000 + 3000 + 10_000
    with pytest.raises(Refused, match="cannot receive incremental stream: out of space"):
        backup.receive("vault/docs", nas.send("tank/docs", "day4", "day2", intermediates=True), resumable=True)
    assert backup.guids("vault/docs") == nas.guids("tank/docs")[:3]
    assert backup.token("vault/docs")
    with pytest.raises(Refused, match="No space left on device"):
        backup.write("vault", 10_001)
    backup.write("vault", 10_000)
    for refused in (
        lambda: backup.create("vault/new"),
        lambda: backup.snapshot("vault", "full"),
        lambda: backup.bookmark("vault/docs", "day2", "full"),
    ):
        with pytest.raises(Refused, match="out of space"):
            refused()
    backup.abort("vault/docs")
    backup.rename("vault/docs", "vault/papers")


@pytest.mark.parametrize(("base", "written"), [("day2", True), ("day2", False), (None, False)])
def test_a_resumed_stream_is_lost_without_s(nas: Pools, backup: Pools, base: str | None, written: bool) -> None:
    name = "vault/docs" if base else "vault/new"
    with pytest.raises(Refused, match="Partially received"):
        backup.receive(name, nas.send("tank/docs", "day3", base).cut(0), resumable=True)
    if written:
        backup.write(name, 1)
    for resumable in (True, False):
        rest = nas.resume(backup.token(name) or "")
        with pytest.raises(Refused, match="has been modified" if written else "incomplete stream"):
            backup.receive(name, rest if written else rest.cut(0), resumable=resumable)
    assert backup.token(name) is None if base else name not in backup.datasets


def test_snapshots_that_are_gone_do_not_save_the_others(nas: Pools) -> None:
    nas.destroy_snapshots("tank/docs", ["day1", "day9"])
    assert [snap.name for snap in nas.dataset("tank/docs").snapshots] == ["day2", "day3"]
    with pytest.raises(Refused, match="could not find any snapshots"):
        nas.destroy_snapshots("tank/docs", ["day1", "day9"])


def test_a_full_stream_onto_an_origin_needs_no_common_past(nas: Pools, backup: Pools) -> None:
    backup.receive("vault/clone", nas.send("tank/docs", "day3"), origin="vault/docs@day1")
    assert backup.dataset("vault/clone").origin == "vault/docs@day1"
    with pytest.raises(Refused, match="does not\nmatch incremental source"):
        backup.receive("vault/other", nas.send("tank/docs", "day3", "day2"), origin="vault/docs@day1")


def test_a_taken_name_is_noticed_before_a_base_that_is_lacking(nas: Pools, backup: Pools) -> None:
    backup.snapshot("vault/docs", "day3")
    backup.destroy_snapshots("vault/docs", ["day2"])
    with pytest.raises(Refused, match="already exists"):
        backup.receive("vault/docs", nas.send("tank/docs", "day3", "day2"))


def test_what_a_broken_first_stream_left_is_no_dataset_yet(nas: Pools) -> None:
    backup = Pools("backup")
    backup.create("vault")
    with pytest.raises(Refused, match="incomplete stream"):
        backup.receive("vault/docs", nas.send("tank/docs", "day3").cut(1), resumable=True)
    with pytest.raises(Refused, match="dataset is busy"):
        backup.snapshot("vault/docs", "own")
    backup.snapshot("vault", "all", recursive=True)
    assert backup.written("vault/docs") > 0
    assert backup.guids("vault/docs") == []
    with pytest.raises(Refused, match="must specify -F"):
        backup.receive("vault/docs", nas.send("tank/docs", "day3"))


def test_a_rollback_onto_an_intent_log_counts_as_written_but_not_as_modified(nas: Pools, backup: Pools) -> None:
    backup.write("vault/docs", 1, logged=True)
    backup.snapshot("vault/docs", "mine")
    nas.receive("tank/copy", backup.send("vault/docs", "mine"))
    nas.write("tank/copy", 1)
    nas.snapshot("tank/copy", "next")
    backup.rollback("vault/docs", "mine")
    assert backup.written("vault/docs") == 1024
    backup.snapshot("vault/docs", "empty")
    assert backup.written("vault/docs") == 0
    assert backup.listing(("name", "written")).splitlines()[-1] == "vault/docs@empty\t1024"
    backup.receive("vault/docs", nas.send("tank/copy", "next", "mine"))
    assert backup.written("vault/docs") == 0
    backup.rollback("vault/docs", "next")
    assert backup.written("vault/docs") == 0


def test_without_its_key_a_dataset_sends_nothing_and_has_no_new_children() -> None:
    nas, backup = Pools("nas"), Pools("backup")
    nas.create("tank")
    nas.create("tank/secret", encryption="aes-256-gcm")
    nas.create("tank/secret/kid")
    nas.snapshot("tank/secret", "one")
    nas.snapshot("tank/secret", "two")
    with pytest.raises(Refused, match="outside of its encryption root"):
        nas.rename("tank/secret/kid", "tank/kid")
    nas.rename("tank/secret", "tank/moved")
    backup.create("vault")
    backup.receive("vault/secret", nas.send("tank/moved", "one", raw=True))
    backup.receive("vault/secret", nas.send("tank/moved", "two", "one", raw=True))
    with pytest.raises(Refused, match="key is not loaded"):
        backup.create("vault/secret/kid")
    with pytest.raises(Refused, match="key must be loaded"):
        backup.send("vault/secret", "two", "one")
    package = backup.send("vault/secret", "two", "one", intermediates=True)
    nas.receive("tank/moved", package)  # zfs warns, and exits 0
    assert package.parts == ()


def test_a_name_may_be_renamed_to_itself(nas: Pools) -> None:
    nas.rename("tank/docs", "tank/docs")
    nas.rename_snapshot("tank/docs", "day1", "day1")
    assert [snap.name for snap in nas.dataset("tank/docs").snapshots] == ["day1", "day2", "day3"]
    nas.create("vault")
    with pytest.raises(Refused, match="within same pool"):
        nas.rename("tank/docs", "vault/none/docs")
    with pytest.raises(Refused, match="cannot be a descendant"):
        nas.rename("tank/docs", "tank/docs/kid")
    with pytest.raises(Refused, match="parent does not exist"):
        nas.rename("tank/docs", "tank/docs/none/kid")


def test_a_clone_has_its_origins_key(nas: Pools) -> None:
    vault = Pools("vault")
    vault.create("vault")
    vault.create("vault/safe", encryption="aes-256-gcm")
    vault.receive("vault/safe/docs", nas.send("tank/docs", "day1"))
    stream = nas.send("tank/docs", "day2", "day1")
    vault.receive("vault/open", stream, origin="vault/safe/docs@day1")
    assert vault.dataset("vault/open").encryption == "aes-256-gcm"
    vault.dataset("vault/safe/docs").key_loaded = False
    with pytest.raises(Refused, match="inherited key must be loaded"):
        vault.receive("vault/other", stream, origin="vault/safe/docs@day1")
    embedded = nas.send("tank/docs", "day2", "day1", embedded=True)
    vault.snapshot("vault/safe/docs", "day2")
    for one in (embedded, nas.send("tank/docs", "day3", "day2")):  # the key is looked for before base and name
        with pytest.raises(Refused, match="inherited key must be loaded"):
            vault.receive("vault/safe/docs", one)
