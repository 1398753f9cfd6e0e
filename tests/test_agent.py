"""The agent carries out what it should, checks what it is told, and runs nothing that it was sent."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.agent_world import COLUMNS, COPY, SHELLS, VIDEOS, World, calls_of, make_world, shells
from tests.tokens import encode_resume_token


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world(tmp_path) as made:
        yield made


# --- transfers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_push_a_full_stream_and_then_the_increments(world: World, shell: str) -> None:
    world.witness.plan = [world.transfer(1), world.transfer(3, base=1, depends_on="a1")]
    run = world.nas.agent("run", shell=shell)
    assert run.returncode == 0, run.stderr
    guids = world.nas.guids(VIDEOS)
    assert world.backup.guids(COPY) == guids
    assert [world.witness.finished[name][:2] for name in ("a1", "a3")] == [(0, guids[0]), (0, guids[2])]
    with world.backup.pools() as backup:
        copy = backup.dataset(COPY)
        assert copy.properties == {"readonly": "on", "canmount": "noauto"}
        assert not copy.mounted
    receives = [call for call in calls_of(world.backup) if call[0] == "receive"]
    assert receives[0] == [
        "receive",
        "-s",
        "-u",
        "-o",
        "readonly=on",
        "-o",
        "canmount=noauto",
        "-x",
        "mountpoint",
        COPY,
    ]
    assert receives[1] == ["receive", "-s", "-u", COPY]
    assert world.witness.bodies("/inventory") == []  # what was sent is nothing new here


def test_pull(world: World) -> None:
    world.witness.plan = [world.transfer(2), world.transfer(3, base=2, depends_on="a2")]
    for row in world.witness.plan:
        row["executor_system_id"] = "backup"
    run = world.backup.agent("run")
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)[1:]
    assert world.witness.paths("/backup/inventory?columns=" + COLUMNS) != []  # in full after a transfer


def test_a_bookmark_is_a_base_and_so_is_one_renamed_since(world: World) -> None:
    world.copied()
    world.witness.plan = [world.transfer(3, base=2, base_is_bookmark="true", intermediates="false")]
    with world.nas.pools() as nas:
        nas.bookmark(VIDEOS, "day 2", "kept")
        nas.rename_snapshot(VIDEOS, "day 3", "third day")
        nas.destroy_snapshots(VIDEOS, ["day 2"])
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY)[-1] == world.nas.guids(VIDEOS)[-1]
    sent = [call for call in calls_of(world.nas) if call[0] == "send"]
    assert sent == [["send", "-vP", "-L", "-c", "-i", f"{VIDEOS}#kept", f"{VIDEOS}@third day"]]


def test_raw_streams_and_volumes_get_what_fits_them(world: World) -> None:
    with world.nas.pools() as nas:
        nas.create("tank/secret", "volume", encryption="aes-256-gcm")
        guid = nas.snapshot("tank/secret", "one").guid
    world.witness.plan = [
        world.transfer(1, embedded="true"),
        world.transfer(1) | {"action_id": "raw", "dataset": "tank/secret", "target_dataset": "vault/nas/secret"}
        | {"snapshot_guid": guid, "kind": "volume", "raw": "true", "properties": "org.zfs:x=1,canmount=off"},
    ]  # fmt: skip
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    sends = sorted(call for call in calls_of(world.nas) if call[0] == "send")
    assert sends[0][1:5] == ["-vP", "-L", "-c", "-e"]
    assert sends[1] == ["send", "-vP", "-w", "tank/secret@one"]
    with world.backup.pools() as backup:
        assert backup.dataset("vault/nas/secret").properties == {"org.zfs:x": "1", "readonly": "on"}
        assert backup.dataset("vault/nas/secret").encryption == "aes-256-gcm"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_broken_stream_is_a_failure_and_resumes_in_the_next_run(world: World, shell: str) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2)]
    world.nas.fault('{"send": {"cut": 3800}}')
    run = world.nas.agent("run", shell=shell)
    assert run.returncode == 1
    status, received, log = world.witness.finished["a3"]
    assert (status, received) == (1, "-")
    assert "send ended with 1, receive with 1" in log
    assert "Input/output error" in log
    with world.backup.pools() as backup:
        token = backup.token(COPY)
    assert token is not None

    world.nas.fault("{}")
    world.witness.plan = [world.transfer(3, base=2, action_type="resume", resume_token=token)]
    run = world.nas.agent("run", shell=shell)
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)
    with world.backup.pools() as backup, world.nas.pools() as nas:
        assert backup.find(f"{COPY}@day 3").blocks == nas.find(f"{VIDEOS}@day 3").blocks


@pytest.mark.parametrize("shell", SHELLS)
def test_a_stream_between_the_largest_guids_resumes(world: World, shell: str) -> None:
    """Shells count to 2^31, 2^63 or 2^64."""
    with world.nas.pools() as nas:
        known = nas.dataset(VIDEOS).snapshots
        known[1:] = [replace(snap, guid=str(2**64 - 9 + at)) for at, snap in enumerate(known[1:])]
    world.copied().witness.plan = [world.transfer(3, base=2)]
    with world.nas.pools() as nas, world.backup.pools() as backup:
        with pytest.raises(Exception, match="saved"):
            backup.receive(COPY, nas.send(VIDEOS, "day 3", "day 2").cut(1), resumable=True)
        token = backup.token(COPY)
    assert token is not None
    world.witness.plan = [world.transfer(3, base=2, action_type="resume", resume_token=token)]
    run = world.nas.agent("run", shell=shell)
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)


def test_a_broken_first_stream_resumes_as_a_new_replica(world: World) -> None:
    world.witness.plan = [world.transfer(1)]
    world.nas.fault('{"send": {"cut": 26000}}')
    assert world.nas.agent("run").returncode == 1
    world.nas.fault("{}")
    with world.backup.pools() as backup:
        token = backup.token(COPY) or ""
    world.witness.plan = [world.transfer(1, action_type="resume", resume_token=token)]
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    with world.backup.pools() as backup:
        assert backup.dataset(COPY).properties["readonly"] == "on"


@pytest.mark.parametrize("wrong", ["token", "end", "guid", "base", "dataset", "raw"])
def test_a_token_for_anything_else_is_not_resumed(world: World, wrong: str) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2)]
    world.nas.fault('{"send": {"cut": 3800}}')
    world.nas.agent("run")
    world.nas.fault("{}")
    with world.backup.pools() as backup, world.nas.pools() as nas:
        row_token = backup.token(COPY) or ""
        nas.create("tank/other")
        nas.snapshot(VIDEOS, "day 4")
        if wrong == "dataset":  # the same snapshot under another dataset's name
            nas.receive("tank/copy", nas.send(VIDEOS, "day 3"))
    row = world.transfer(3, base=2, action_type="resume", resume_token=row_token)
    if wrong == "token":
        guids = world.nas.guids(VIDEOS)
        row["resume_token"] = encode_resume_token(f"{VIDEOS}@day 3", guids[2], guids[1], 7, compressed=True)
    elif wrong == "end":
        row["snapshot_guid"] = world.nas.guids(VIDEOS)[3]
    elif wrong == "guid":  # of the right name, which zfs itself would compare, too
        said = f"\ttoguid = 0x7b\n\tfromguid = {int(row['incremental_base_guid']):#x}\n\ttoname = {VIDEOS}@day 3\n"
        world.nas.fault(json.dumps({"send": {"description": said}}))
    elif wrong == "base":
        row["incremental_base_guid"] = world.nas.guids(VIDEOS)[0]
    elif wrong == "dataset":
        row["dataset"] = "tank/copy"
    else:
        row["raw"] = "true"
    world.witness.plan = [row]
    before = len(calls_of(world.nas))
    assert world.nas.agent("run").returncode == 1
    assert not any(call[0] == "send" and "-nvP" not in call for call in calls_of(world.nas)[before:])
    assert world.witness.finished["a3"][0] == 1
    assert len(world.backup.guids(COPY)) == 2


def test_a_receive_that_did_nothing_is_a_failure(world: World) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2)]
    world.backup.fault('{"receive": {"ignore": true}}')
    assert world.nas.agent("run").returncode == 1
    status, received, log = world.witness.finished["a3"]
    assert (status, received) == (1, "-")
    assert "day 3': dataset does not exist" in log


def test_a_sender_that_fails_at_the_very_end_is_a_failure(world: World) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2)]
    world.nas.fault('{"send": {"complaint": "warning: cannot send: Input/output error"}}')
    assert world.nas.agent("run").returncode == 1
    assert world.witness.finished["a3"][0] == 1
    assert "send ended with 1, receive with 0" in world.witness.finished["a3"][2]


def test_guids_are_never_taken_for_floating_point_numbers(world: World) -> None:
    with world.copied().nas.pools() as nas:
        known = nas.dataset(VIDEOS).snapshots
        known[0] = replace(known[0], guid=str(int(known[2].guid) + 1))
        assert float(known[0].guid) == float(known[2].guid)
    world.witness.plan = [world.transfer(3, base=2)]
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY)[1:] == world.nas.guids(VIDEOS)[1:]


def test_a_receive_that_is_refused_is_a_failure_with_the_reason(world: World) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2)]
    with world.backup.pools() as backup:
        backup.write(COPY, 1)
    assert world.nas.agent("run").returncode == 1
    assert "has been modified" in world.witness.finished["a3"][2]
    assert world.witness.paths(COLUMNS) != []  # something was written there: a full report shows it


def test_what_is_there_already_is_done(world: World) -> None:
    world.copied().witness.plan = [world.transfer(2, base=1)]
    assert world.nas.agent("run").returncode == 0
    assert world.witness.finished["a2"][:2] == (0, world.nas.guids(VIDEOS)[1])
    assert not any(call[0] == "send" for call in calls_of(world.nas))


@pytest.mark.parametrize("missing", ["end", "base on the source", "base on the target"])
def test_guids_are_checked_before_anything_is_sent(world: World, missing: str) -> None:
    row = world.copied().transfer(3, base=2)
    if missing == "end":  # another snapshot has its name now
        with world.nas.pools() as nas:
            nas.destroy_snapshots(VIDEOS, ["day 3"])
            nas.snapshot(VIDEOS, "day 3")
    elif missing == "base on the source":
        with world.nas.pools() as nas:
            nas.destroy_snapshots(VIDEOS, ["day 2"])
            nas.bookmark(VIDEOS, "day 1", "day 2")
    else:
        row = world.transfer(3, base=1)
        with world.backup.pools() as backup:
            backup.destroy_snapshots(COPY, ["day 1"])
    world.witness.plan = [row]
    assert world.nas.agent("run").returncode == 1
    assert world.witness.finished["a3"][0] == 1
    assert not any(call[0] == "send" for call in calls_of(world.nas))


@pytest.mark.parametrize(("there", "why"), [("the dataset", "exists already"), ("a part", "a receive that broke off")])
def test_what_is_in_the_way_on_the_target_is_seen_before_anything_is_sent(world: World, there: str, why: str) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2 if there == "a part" else None)]
    if there == "a part":
        with world.nas.pools() as nas, world.backup.pools() as backup, pytest.raises(Exception, match="saved"):
            backup.receive(COPY, nas.send(VIDEOS, "day 3", "day 2").cut(1), resumable=True)
    assert world.nas.agent("run").returncode == 1
    assert why in world.witness.finished["a3"][2]
    assert not any(call[0] == "send" for call in calls_of(world.nas))


def test_a_rate_limit_lets_everything_through(world: World) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2, rate_limit="100000")]
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    world.nas.configure(rate_limit=8000)
    with world.nas.pools() as nas:
        nas.snapshot(VIDEOS, "day 4")
    world.witness.plan = [world.transfer(4, base=3)]
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)


@pytest.mark.parametrize("shell", shells("dash", "mksh"))  # mksh counts to 2^31 only
@pytest.mark.parametrize(("ours", "theirs"), [("3000000000", "-"), ("5000000000", "2147483648"), ("", "4294967296")])
def test_a_rate_limit_may_be_large(world: World, ours: str, theirs: str, shell: str) -> None:
    world.nas.configure(rate_limit=ours)
    world.copied().witness.plan = [world.transfer(3, base=2, rate_limit=theirs)]
    run = world.nas.agent("run", shell=shell)
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)


def test_an_unreachable_peer_is_a_failure(world: World) -> None:
    world.witness.plan = [world.transfer(1, target_ssh_hostname="nowhere")]
    assert world.nas.agent("run").returncode == 1
    assert "Could not resolve" in world.witness.finished["a1"][2]


# --- what the witness says -----------------------------------------------------------------------

HOSTILE = [
    "$(touch pwned)",
    "`touch pwned`",
    "x; touch pwned",
    "x' 'y",
    "-oProxyCommand=touch pwned",
    "../x",
    "x\\ny",
    "x*",
]
TEXTS = (
    "action_id", "dataset", "target_dataset", "snapshot_guid", "incremental_base_guid", "origin", "depends_on", "kind",
    "target_ssh_hostname", "target_ssh_user", "target_ssh_port", "source_ssh_hostname", "resume_token", "new_name",
    "expected_guids", "expected_written", "properties", "rate_limit", "base_is_bookmark", "snapshot_name", "raw",
)  # fmt: skip


@pytest.mark.parametrize("field", TEXTS)
def test_a_field_that_does_not_match_its_pattern_is_refused(world: World, field: str, tmp_path: Path) -> None:
    values = [*HOSTILE, "compression=$(touch pwned)"] if field == "properties" else HOSTILE
    row = world.copied().transfer(3, base=2)
    world.witness.plan = [row | {"action_id": f"bad{at}", field: value} for at, value in enumerate(values)]
    run = world.nas.agent("run")
    assert run.returncode == 1
    assert run.stderr.count("refused action") == len(values)
    assert world.witness.paths("/start") == []
    assert [call[0] for call in calls_of(world.nas)] == ["list", "version"]
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(
    "properties",
    [
        "mountpoint=/etc",
        "canmount=on",
        "sharenfs=on",
        "keylocation=file:///x",
        "setuid=on",
        "compression=",
        "x",
        "a=b,",
    ],
)
def test_a_new_dataset_gets_no_property_that_mounts_shares_or_unlocks(world: World, properties: str) -> None:
    world.witness.plan = [world.transfer(1, properties=properties)]
    assert world.nas.agent("run").returncode == 1
    assert world.witness.paths("/start") == []


def test_reasons_and_names_are_only_ever_words(world: World, tmp_path: Path) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2, reason="$(touch pwned) `touch pwned` %s \\n *")]
    shown = world.nas.agent("plan")
    assert shown.stdout == f"sync {COPY}: $(touch pwned) `touch pwned` %s \\n *, about 3.4 KiB\n"
    assert world.nas.agent("run").returncode == 0
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ("-", ""),
        ("900", ", about 900 bytes"),
        ("5000000000", ", about 4.7 GiB, for how long is not known yet"),
        ("9" * 18, ", about 909495 TiB, for how long is not known yet"),
    ],
)
def test_a_plan_says_how_much_would_be_sent(world: World, size: str, shown: str, shell: str) -> None:
    world.witness.plan = [world.transfer(3, base=2, estimated_size=size)]
    run = world.nas.agent("plan", shell=shell)
    assert run.stdout == f"sync {COPY}: backup lacks it{shown}\n"


def test_a_plan_for_another_system_is_refused(world: World) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2, executor_system_id="backup", action_id="bad")]
    run = world.nas.agent("run")
    assert "it is for another system" in run.stderr
    assert world.witness.paths("/start") == []


def test_a_run_ends_though_a_signal_is_lost(world: World) -> None:
    """As by a shell that has just been forked; here none arrives, since all ignore it."""
    world.copied().nas.configure(progress_s=1)
    world.witness.plan = [world.transfer(3, base=2, executor_system_id="backup", action_id="bad")]
    run = world.nas.agent("run", shell="""sh -c 'trap "" TERM; exec "$0" "$@"'""")
    assert "it is for another system" in run.stderr


def test_roots_limit_what_the_witness_may_touch(world: World) -> None:
    world.nas.configure(roots="tank/public,tank/home")
    world.witness.plan = [world.transfer(1)]
    assert "outside the configured roots" in world.nas.agent("run").stderr
    world.nas.configure(roots="tank/public,tank/home videos")
    assert world.nas.agent("run").returncode == 0
    world.witness.plan = [world.transfer(3, base=1, executor_system_id="backup")]
    world.backup.configure(roots="tank,vault/nas/home")
    assert f"{COPY} is outside the configured roots" in world.backup.agent("run").stderr
    assert len(world.backup.guids(COPY)) == 1


def test_new_columns_do_no_harm_and_missing_ones_stop(world: World) -> None:
    world.copied().witness.plan = [{"new_column": "x y", **world.transfer(3, base=2), "later": "-"}]
    assert world.nas.agent("run").returncode == 0
    row = world.transfer(3, base=2)
    del row["expected_guids"]
    world.witness.plan = [row]
    run = world.nas.agent("run")
    assert run.returncode == 1
    assert "not in the form" in run.stderr


@pytest.mark.parametrize("junk", [b"", b"action_id\n", b"<html>no</html>", b"a\tb\n\t\n"])
def test_what_is_no_plan_is_refused(world: World, junk: bytes) -> None:
    world.witness.change = lambda body: junk
    run = world.nas.agent("run")
    assert run.returncode == 1
    assert "refused the plan" in run.stderr


@pytest.mark.parametrize(("what", "by"), [(b"\t-\t", b"\t\t"), (b"\t-\n", b"\n"), (b"\t-\n", b"\t-\t-\n")])
def test_a_line_of_another_width_is_refused(world: World, what: bytes, by: bytes) -> None:
    world.witness.plan = [world.transfer(1, rate_limit="-")]
    world.witness.change = lambda body: body.replace(what, by, 1)
    run = world.nas.agent("run")
    assert run.returncode == 1
    assert "not in the form" in run.stderr


def test_control_characters_are_refused(world: World) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2, reason="\x1b[31mred")]
    assert "refused the plan" in world.nas.agent("run").stderr


def test_an_expired_plan_is_refused(world: World) -> None:
    world.copied().witness.plan = [world.transfer(3, base=2)]
    world.witness.expires = 1_700_000_000
    run = world.nas.agent("run")
    assert "it has expired" in run.stderr
    assert world.witness.paths("/start") == []


def test_a_signed_plan_is_verified(world: World, tmp_path: Path) -> None:
    key = world.witness.key = Ed25519PrivateKey.generate()
    pem = tmp_path / "witness.pem"
    pem.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    world.nas.configure(public_key=pem)
    world.copied().witness.plan = [world.transfer(3, base=2)]

    world.witness.change = lambda body: body.replace(b"vault/nas/home", b"vault/nas/hole")
    assert "signature" in world.nas.agent("run").stderr
    world.witness.change, world.witness.key = (lambda body: body), None
    assert "signature" in world.nas.agent("run").stderr
    world.witness.key = Ed25519PrivateKey.generate()
    assert "signature" in world.nas.agent("run").stderr
    assert world.witness.paths("/start") == []

    world.witness.key = key
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    assert world.backup.guids(COPY) == world.nas.guids(VIDEOS)


@pytest.mark.parametrize("status", [409, 410])
def test_what_another_holds_or_the_plan_dropped_is_skipped_quietly(world: World, status: int) -> None:
    world.copied().witness.plan = [
        world.transfer(3, base=2),
        world.transfer(3, base=2) | {"action_id": "later", "depends_on": "a3"},
    ]
    world.witness.refusals["start"] = status
    run = world.nas.agent("run")
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("scripted refusal") == 1
    assert "it waits for a3" in run.stderr


def test_what_waits_for_a_failed_step_is_not_started(world: World) -> None:
    world.witness.plan = [
        world.transfer(1, target_ssh_hostname="nowhere"),
        world.transfer(3, base=1, depends_on="x,a1"),
    ]
    assert world.nas.agent("run").returncode == 1
    assert world.witness.paths("/start") == ["/api/v1/sync/actions/a1/start"]


def test_an_unknown_step_is_reported_and_not_tried(world: World) -> None:
    world.witness.plan = [world.transfer(1, action_type="perform_action")]
    assert world.nas.agent("run").returncode == 1
    assert "does not know perform_action" in world.witness.finished["a1"][2]


def test_a_busy_witness_is_asked_again_and_a_gone_one_is_a_failure(world: World) -> None:
    world.witness.refusals["heartbeat"] = 503
    assert world.nas.agent("run").returncode == 1
    assert len(world.witness.paths("/heartbeat")) == 3
    world.nas.configure(witness="http://127.0.0.1:9")
    run = world.nas.agent("run")
    assert run.returncode == 1
    assert "heartbeat refused: 000" in run.stderr
