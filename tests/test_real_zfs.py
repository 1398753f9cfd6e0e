"""The whole on real pools: witness, agents, ssh, zfs. After each, guids and contents are equal on all ends."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from planner.resume import decode_resume_token
from tests.real_site import HAS_SSHD, HAS_ZFS, Place, RealSite, contents, make_key, user, wait_until

pytestmark = pytest.mark.skipif(
    not (HAS_ZFS and HAS_SSHD), reason="needs root, sshd and a kernel with OpenZFS: it makes pools in files"
)
HUB = ("nas", "backup", "offsite")


@pytest.fixture(scope="module")
def site() -> Iterator[RealSite]:
    folder = Path(tempfile.mkdtemp(prefix="zfs-sync-"))
    folder.chmod(0o755)  # not only root's agents live there
    made = RealSite(folder / "site")
    for name in HUB:
        made.machine(name, f"real{name}")
    for machine in made.machines.values():
        for other in HUB:
            machine.let_in(other)
    yield made
    made.close()
    assert "Traceback" not in (made.folder / "witness.log").read_text()
    shutil.rmtree(folder)


def test_first_sync_then_increments(site: RealSite) -> None:
    with site.place(*HUB, hub="nas") as here:
        here.fill("media", "one", "two")
        here.fill("media/home videos", "one")
        here.report()
        here.run("nas")
        here.settled()
        here.same("media", common=2)
        here.same("media/home videos")
        here.fill("media", "three", "four")
        here.fill("media/home videos", "two")
        here.run("nas")
        here.settled()
        here.same("media", common=4)
        here.same("media/home videos", common=2)


def test_a_bookmark_is_the_base_once_the_source_was_pruned_and_names_do_not_matter(site: RealSite) -> None:
    with site.place("nas", "backup", hub="nas", delete="mirror") as here:
        here.fill("media", "one")
        here.report()
        here.run("nas")
        assert b"#zfs-sync-" in site.pools.zfs("list", "-Ht", "bookmark", "-o", "name", here.on("nas", "media"))
        site.pools.destroy_snapshots(here.on("nas", "media"), ["one"])
        here.fill("media", "two")
        here.run("nas")
        here.same("media", common=1)
        site.pools.rename_snapshot(here.on("nas", "media"), "two", "second")
        here.fill("media", "three")
        site.pools.rename_snapshot(here.on("backup", "media"), "two", "zwei")
        here.report()
        here.run("nas")
        here.same("media", common=2)
        assert list(here.guids("backup", "media").values()) == ["one", "zwei", "three"]


def diverge(here: Place) -> str:
    """Write to a replica, and to its source; the guid of the replica's own snapshot."""
    copy = here.on("backup", "www")
    here.pools.zfs("set", "readonly=off", copy)
    here.pools.write(copy, 20_000)
    here.pools.snapshot(copy, "edited-here")
    here.fill("www", "two")
    here.report()
    return list(here.guids("backup", "www"))[-1]


def test_a_diverged_replica_is_set_aside(site: RealSite) -> None:
    with site.place("nas", "backup", hub="nas") as here:
        here.fill("www", "one")
        here.fill("www/below", "one")
        here.report()
        here.run("nas")
        edited = diverge(here)
        before = contents(site.pools, here.on("backup", "www@edited-here"))
        assert here.resolve("www", "nas", discard=False)["type"] == "diverged"
        here.run("backup", "nas", "backup", "nas")
        here.settled()
        here.same("www", common=2)
        here.same("www/below")
        (aside,) = [name for name in here.datasets("backup") if ".aside-" in name]
        assert list(here.guids("backup", aside)) == [edited]
        assert contents(site.pools, here.on("backup", f"{aside}@edited-here")) == before
        here.fill("www", "three")
        here.fill("www/below", "two")
        here.run("nas")
        here.settled()
        here.same("www", common=3)
        here.same("www/below", common=2)


def test_a_diverged_replica_is_rolled_back_if_that_was_decided(site: RealSite) -> None:
    with site.place("nas", "backup", hub="nas") as here:
        here.fill("www", "one")
        here.report()
        here.run("nas")
        diverge(here)
        here.resolve("www", "nas", discard=True)
        here.run("backup", "nas")
        here.settled()
        here.same("www", common=2)
        assert here.datasets("backup") == ["www"]


def test_a_discard_stops_when_the_replica_has_changed_since(site: RealSite) -> None:
    with site.place("nas", "backup", hub="nas") as here:
        here.fill("www", "one")
        here.report()
        here.run("nas")
        diverge(here)
        here.resolve("www", "nas", discard=True)
        here.pools.write(here.on("backup", "www"), 5000)
        before = here.guids("backup", "www")
        here.machines["backup"].agent("run", status=None)
        assert here.guids("backup", "www") == before


def cut(here: Place, path: str, bytes_: int) -> str:
    """Begin a transfer and cut its connections once something has arrived; the resume token."""
    nas = here.machines["nas"]
    nas.configure(rate_limit=400_000)
    here.fill(path, "big", bytes_=bytes_)
    dataset = here.on("backup", path)
    running = nas.begin("run")
    wait_until(lambda: arrived(here.pools.token(dataset)) > 600_000)
    nas.cut_connections()
    said = running.communicate(timeout=300)[1]
    nas.configure(rate_limit=2**40)
    assert running.returncode == 1, said
    token = here.pools.token(dataset)
    assert token != "-", said
    return token


def arrived(token: str) -> int:
    """How many bytes could be resumed after."""
    decoded = decode_resume_token(token)
    return decoded.bytes_done if decoded else 0


def test_a_transfer_whose_connection_is_cut_goes_on_where_it_was(site: RealSite) -> None:
    with site.place("nas", "backup", hub="nas") as here:
        here.fill("media", "one")
        here.report()
        here.run("nas")
        token = cut(here, "media", 4_000_000)
        rest = site.pools.zfs("send", "-nvP", "-t", token).decode()
        assert int(rest.rpartition("size\t")[2]) < 3_500_000
        here.report()
        assert here.actions() == [f"resume {here.on('backup', 'media')}"]
        here.run("nas")
        here.settled()
        here.same("media", common=2)


def test_what_arrived_of_a_snapshot_that_is_gone_is_dropped(site: RealSite) -> None:
    with site.place("nas", "backup", hub="nas") as here:
        here.fill("media", "one")
        here.report()
        here.run("nas")
        cut(here, "media", 3_000_000)
        site.pools.destroy_snapshots(here.on("nas", "media"), ["big"])
        here.fill("media", "two")
        here.report()
        assert f"abort_receive {here.on('backup', 'media')}" in here.actions()
        here.run("backup", "nas", "backup")
        here.settled()
        here.same("media", common=2)


@pytest.mark.parametrize("transfer", ["push", "pull"])
def test_large_streams_are_compressed_and_buffered(site: RealSite, transfer: str) -> None:
    with site.place("nas", "backup", hub="nas", transfer=transfer) as here:
        agent = "nas" if transfer == "push" else "backup"
        site.pools.create(here.on("nas", "media"))
        site.pools.zfs("set", "compression=off", here.on("nas", "media"))
        here.fill("media", "one", bytes_=3_000_000)
        here.report()
        assert "compressed by zstd" in here.run(agent)
        here.fill("media", "two", "three", bytes_=2_000_000)
        here.report()
        assert "compressed by zstd" in here.run(agent)
        here.settled()
        here.same("media", common=3)
        assert list(here.machines[agent].state.glob("rate.*")) != []


def test_encrypted_datasets_are_sent_raw(site: RealSite) -> None:
    with site.place("nas", "backup", hub="nas") as here:
        site.pools.create(here.on("nas", "secret"), encryption="aes-256-gcm")
        here.fill("secret", "one", "two")
        here.report()
        here.run("nas")
        here.settled()
        here.fill("secret", "three")
        here.run("nas")
        here.settled()
        copy = here.on("backup", "secret")
        status = site.pools.zfs("get", "-Hpo", "value", "keystatus", copy)
        assert status == b"unavailable\n"
        site.pools.load_key(copy)
        here.same("secret", common=3)
        site.pools.zfs("unload-key", copy)


def test_volumes(site: RealSite) -> None:
    with site.place("nas", "backup", hub="nas") as here:
        site.pools.create(here.on("nas", "disk"), "volume")
        here.fill("disk", "one", "two")
        here.report()
        here.run("nas")
        here.settled()
        here.fill("disk", "three")
        here.run("nas")
        here.settled()
        here.same("disk", common=3)


def test_what_the_hub_let_go_goes_on_its_replica_too(site: RealSite) -> None:
    with site.place("nas", "backup", hub="nas", delete="mirror") as here:
        here.fill("media", "one", "two", "three", "four", "five")
        here.report()
        here.run("nas")
        site.pools.snapshot(here.on("backup", "media"), "its-own")
        site.pools.destroy_snapshots(here.on("nas", "media"), ["one", "three"])
        here.report()
        here.run("nas", "backup")
        assert list(here.guids("backup", "media").values()) == ["two", "four", "five", "its-own"]
        site.pools.destroy_snapshots(here.on("backup", "media"), ["its-own"])
        here.settled()
        here.same("media", common=3)


@pytest.mark.parametrize("transfer", ["push", "pull"])
def test_missing_parents_are_made(site: RealSite, transfer: str) -> None:
    with site.place("nas", "backup", hub="nas", below="copies/nas", transfer=transfer) as here:
        here.fill("media", "one")
        here.fill("media/home videos", "one")
        here.report()
        here.run("nas" if transfer == "push" else "backup")
        here.settled()
        here.same("media")
        here.same("media/home videos")
        values = site.pools.zfs("get", "-Ho", "value", "readonly,canmount,mounted", here.roots["backup"])
        assert values.split() == [b"on", b"off", b"no"]


def test_a_pair_in_both_directions(site: RealSite) -> None:
    with site.place("nas", "backup") as here:
        here.fill("a", "one")
        here.fill("b", "one", on="backup")
        here.report()
        here.run("nas", "backup")
        here.settled()
        here.same("a", "nas")
        here.same("b", "backup", "nas")
        for name, path in (("backup", "a"), ("nas", "b")):
            site.pools.zfs("set", "readonly=off", here.on(name, path))
            here.fill(path, "back", on=name)
        here.report()
        here.run("backup", "nas")
        here.settled()
        here.same("a", "backup", "nas", common=2)
        here.same("b", "nas", "backup", common=2)


@pytest.mark.slow
def test_200_datasets(site: RealSite) -> None:
    with site.place("nas", "backup", hub="nas") as here:
        paths = ["all", *(f"all/d{number:03}" for number in range(199))]
        for path in paths:
            site.pools.create(here.on("nas", path))
        site.pools.snapshot(here.on("nas", "all"), "one", recursive=True)
        here.report()
        here.run("nas")
        site.pools.snapshot(here.on("nas", "all"), "two", recursive=True)
        here.run("nas")
        here.settled()
        for path in paths:
            assert list(here.guids("nas", path)) == list(here.guids("backup", path))


@pytest.mark.parametrize("transfer", ["push", "pull"])
def test_without_root_and_with_a_guard(site: RealSite, transfer: str) -> None:
    """Both agents and both ends of ssh are users that may only what README says, and ssh runs nothing but the guard."""
    with ExitStack() as stack:
        for name in ("zsend", "zrecv"):
            stack.enter_context(user(name))
        sender = site.machine(f"sender-{transfer}", f"realsender{transfer}", "zsend")
        receiver = site.machine(f"receiver-{transfer}", f"realreceiver{transfer}", "zrecv")
        here = stack.enter_context(
            site.place(sender.name, receiver.name, hub=sender.name, below="copies", transfer=transfer, delete="mirror")
        )
        source, target = sender.name, receiver.name
        root = here.roots[source], f"{receiver.pool}/{here.name}"
        keys = f'restrict,command="sh {site.agent} guard'
        receiver.let_in(source, f'{keys} receive {root[1]}"')
        sender.let_in(target, f'{keys} send {root[0]}"')
        here.fill("media", "one", "two", "three", on=source)
        here.fill("media/home videos", "one", on=source)
        site.pools.create(here.on(source, "secret"), encryption="aes-256-gcm")
        here.fill("secret", "one", "two", on=source)
        site.pools.create(here.on(source, "disk"), "volume")
        here.fill("disk", "one", "two", on=source)
        site.pools.create(here.on(source, "large"))
        site.pools.zfs("set", "compression=off", here.on(source, "large"))
        here.fill("large", "one", bytes_=2_000_000, on=source)
        assert "zsend lacks permissions to send" in sender.agent("doctor", status=1)
        site.pools.zfs("allow", "zsend", "send,hold,bookmark,destroy", root[0])
        said = receiver.agent("doctor", status=1)
        assert f"zfs allow zrecv receive,create,mount,readonly,canmount,mountpoint {root[1]}" in said
        site.pools.zfs("allow", "zrecv", "receive,create,mount,readonly,canmount,mountpoint,destroy", root[1])
        for machine in (sender, receiver):
            said = machine.agent("doctor")
            assert "bad:" not in said
        here.report()
        assert "compressed by zstd" in here.run(source if transfer == "push" else target)
        here.fill("media", "four", on=source)
        site.pools.destroy_snapshots(here.on(source, "media"), ["two"])
        here.report()
        here.run(source, target)
        here.settled()
        site.pools.load_key(here.on(target, "secret"))
        for path in ("media", "media/home videos", "secret", "disk", "large"):
            here.same(path, source, target)
            values = site.pools.zfs("get", "-Ho", "value", "readonly,mounted", here.on(target, path)).split()
            assert values[0] == b"on"
            assert values[1:] != [b"yes"]
        assert list(here.guids(target, "media").values()) == ["one", "three", "four"]
        site.pools.zfs("unload-key", here.on(target, "secret"))
        for command in ("id", f"zfs destroy -r {root[1]}", f"'zfs' 'destroy' '{here.on(target, 'media')}@one'"):
            key = ["ssh", "-F", f"{site.folder}/{source}.ssh", "-p", str(site.ssh_port), "zrecv@receiver", command]
            tried = subprocess.run(key, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
            assert tried.returncode == 1
            assert "guard: refused" in tried.stderr


def test_the_ssh_key_between_hosts_is_replaced_without_a_stop(site: RealSite) -> None:
    """As docs/operations.md has it: the new line beside the old one, doctor, and then the old line goes."""
    nas, backup, folder = site.machines["nas"], site.machines["backup"], site.folder
    let_in = site.keys / backup.user

    def reached() -> bool:
        nas.cut_connections()  # one that is still open needs no key
        return "good: zfs on backup is reached" in nas.agent("doctor", status=None)

    with site.place("nas", "backup", hub="nas") as here:
        here.fill("media", "one")
        here.report()
        here.run("nas")
        old = (folder / "nas.key.pub").read_text()
        for name in ("nas.key", "nas.key.pub"):
            (folder / name).unlink()
        make_key(folder / "nas.key")
        assert not reached()
        backup.let_in("nas")
        assert reached()
        let_in.write_text(let_in.read_text().replace(old, ""))
        assert reached()
        here.fill("media", "two")
        here.run("nas")
        here.same("media", common=2)


def test_a_target_that_is_full_goes_on_when_there_is_room(site: RealSite) -> None:
    with site.place("nas", "backup", hub="nas") as here:
        here.fill("media", "one")
        here.report()
        here.run("nas")
        here.fill("media", "two", bytes_=3_000_000)
        here.report()
        site.pools.zfs("set", "quota=2M", here.roots["backup"])
        said = here.run("nas", status=1)
        assert "quota exceeded" in said or "out of space" in said
        assert len(here.guids("backup", "media")) == 1
        site.pools.zfs("set", "quota=none", here.roots["backup"])
        here.report()
        here.run("nas", "nas")
        here.settled()
        here.same("media", common=2)


def test_an_agent_that_is_killed_leaves_nothing_in_the_way(site: RealSite) -> None:
    """With all that it started here, as by a crash; the next runs find what arrived, or send the rest of it."""
    with site.place("nas", "backup", hub="nas") as here:
        nas, backup = here.machines["nas"], here.machines["backup"]
        here.fill("media", "one")
        here.report()
        here.run("nas")
        here.fill("media", "two", bytes_=4_000_000)
        nas.configure(rate_limit=1_000_000)
        before = backup.allocated()
        running = nas.begin("run")
        wait_until(lambda: backup.allocated() > before + 1_000_000)
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate(timeout=300)
        nas.configure(rate_limit=2**40)
        for _ in range(20):
            nas.agent("run", status=None)
            here.report()
            if site.not_in_sync(here.name) == []:
                break
        here.settled()
        here.same("media", common=2)
