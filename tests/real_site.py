"""A witness, an sshd, and machines with real pools in files, all on this one machine. Needs root and OpenZFS."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab import AGENT, Lab
from tests.real_pools import RealPools, open_volume
from tests.witness import ENROLL

HAS_ZFS = os.path.exists("/dev/zfs") and os.geteuid() == 0 and shutil.which("zpool", path="/usr/sbin:/sbin") is not None
HAS_SSHD = os.path.exists("/usr/sbin/sshd")
SETTINGS = "workers: 1\nlock_timeout_s: 60\n"  # a virtual machine may be slow
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/keys/%u
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
MaxStartups 100
PidFile none
"""
SSH = """
Host *
    HostName 127.0.0.1
    HostKeyAlias real-site
    IdentityFile {folder}/{name}.key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    KexAlgorithms curve25519-sha256
    ControlMaster auto
    ControlPath {folder}/{name}.state/%C
    ControlPersist 60
"""


class RealSite(Lab):
    """A witness and machines. Each machine is an agent with a pool, a key and a state of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, SETTINGS)
        self.pools = RealPools(folder / "pools")
        self.machines: dict[str, Machine] = {}
        self.places = 0
        self.agent = folder / "zfs-sync-agent"  # where users that are not root can read it
        shutil.copy(AGENT, self.agent)
        self.keys = folder / "keys"
        self.keys.mkdir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.ssh_port = int(probe.getsockname()[1])
        make_key(folder / "host_key")
        public = " ".join((folder / "host_key.pub").read_text().split()[:2])
        (folder / "known_hosts").write_text(f"real-site {public}\n")
        (folder / "sshd_config").write_text(SSHD.format(port=self.ssh_port, folder=folder))
        Path("/run/sshd").mkdir(exist_ok=True)
        command = ["/usr/sbin/sshd", "-D", "-E", str(folder / "sshd.log"), "-f", str(folder / "sshd_config")]
        self.sshd = subprocess.Popen(command)

    def close(self) -> None:
        """End everything and destroy the pools."""
        self.stop()
        self.sshd.terminate()
        self.sshd.wait(30)
        for machine in self.machines.values():
            self.pools.destroy_pool(machine.pool)

    def machine(self, name: str, pool: str, user: str = "root") -> "Machine":
        """A machine with a new pool, known to the witness; the others' agents log in as a user."""
        self.pools.create_pool(pool)
        self.pools.zfs("set", "snapdev=visible", pool)
        machine = self.machines[name] = Machine(self, name, pool, user)
        machine.agent("register")
        ids = {system["hostname"]: system["id"] for system in self.call("GET", "/systems")}
        machine.id = ids[name]
        return machine

    @contextmanager
    def place(self, *names: str, hub: str | None = None, below: str = "", **options: Any) -> Iterator["Place"]:
        """A group of machines whose roots are empty datasets of its own; it and they are gone afterwards."""
        self.places += 1
        here = Place(self, f"t{self.places}", [self.machines[name] for name in names], below)
        for machine in here.machines.values():
            self.pools.create(f"{machine.pool}/{here.name}")
        if hub:
            options["hub_system_id"] = self.machines[hub].id
        members = {machine.id: {"root": here.roots[name]} for name, machine in here.machines.items()}
        made = self.call("POST", "/sync-groups", {"name": here.name, "members": members, **options})
        try:
            yield here
        finally:
            self.call("DELETE", f"/sync-groups/{made['id']}")
            for machine in here.machines.values():
                self.pools.destroy(f"{machine.pool}/{here.name}", recursive=True)


class Machine:
    """A host of its own, as far as its agent can tell: one pool, an ssh key, a state folder."""

    def __init__(self, site: RealSite, name: str, pool: str, user: str) -> None:
        self.site, self.name, self.pool, self.user = site, name, pool, user
        self.id = ""
        folder = site.folder
        make_key(folder / f"{name}.key")
        (folder / f"{name}.ssh").write_text(SSH.format(folder=folder, name=name))
        self.state = folder / f"{name}.state"
        self.state.mkdir()
        self.conf = self.state / "agent.conf"
        self.conf.write_text(
            f"witness=http://127.0.0.1:{site.port}\nhostname={name}\nssh_user={user}\nssh_port={site.ssh_port}\n"
            f"enroll_key={ENROLL}\nstate_dir={self.state}\nssh_config={folder}/{name}.ssh\nretry_s=1\nprogress_s=1\n"
        )
        self.conf.chmod(0o600)
        self.log = ""
        for path in (self.state, self.conf, folder / f"{name}.key"):
            shutil.chown(path, user)

    def let_in(self, name: str, options: str = "") -> None:
        """Let a machine's key log in here; options as authorized_keys has them, see sshd(8), limit it."""
        public = (self.site.folder / f"{name}.key.pub").read_text()
        with (self.site.keys / self.user).open("a") as file:
            file.write(f"{options} {public}".lstrip())

    def configure(self, **settings: object) -> None:
        """Add lines to its agent's configuration."""
        with self.conf.open("a") as file:
            file.writelines(f"{key} = {value}\n" for key, value in settings.items())

    def command(self, command: str) -> list[str]:
        """What its agent is started with."""
        return ["runuser", "-u", self.user, "--", "sh", str(self.site.agent), "--config", str(self.conf), command]

    def agent(self, command: str, status: int | None = 0, environ: dict[str, str] | None = None) -> str:
        """Run its agent; what it said."""
        done = subprocess.run(
            self.command(command), env={"PATH": PATH, **(environ or {})}, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=1800, check=False,
        )  # fmt: skip
        self.log = done.stdout + done.stderr
        assert status in (None, done.returncode), f"{self.name}: {command}: {done.returncode}\n{self.log}"
        return self.log

    def begin(self, command: str) -> "subprocess.Popen[str]":
        """Start its agent, in a session of its own."""
        return subprocess.Popen(
            self.command(command), env={"PATH": PATH}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def allocated(self) -> int:
        """How many bytes of its pool are in use."""
        said = subprocess.run(["zpool", "list", "-Hpo", "alloc", self.pool], capture_output=True, check=True)
        return int(said.stdout)

    def cut_connections(self) -> None:
        """Kill its ssh, as a broken line would."""
        own = f"{self.site.folder}/{self.name}.".encode()  # its configuration, or the socket that it shares
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if words.startswith(b"ssh") and own in words:
                os.kill(int(process.name), signal.SIGKILL)


class Place:
    """A group and its roots."""

    def __init__(self, site: RealSite, name: str, machines: Sequence[Machine], below: str) -> None:
        self.site, self.pools, self.name = site, site.pools, name
        self.machines = {machine.name: machine for machine in machines}
        self.roots = {machine.name: f"{machine.pool}/{name}" for machine in machines}
        for machine in machines[1:] if below else ():
            self.roots[machine.name] += f"/{below}"

    def on(self, name: str, path: str) -> str:
        """The name of a dataset on a machine."""
        return f"{self.roots[name]}/{path}"

    def fill(self, path: str, *snaps: str, on: str = "nas", bytes_: int = 20_000) -> None:
        """Write to a dataset, and snapshot it, for each name; it is made if it is missing."""
        dataset = self.on(on, path)
        if not self.exists(on, path):
            self.pools.create(dataset)
        for snap in snaps:
            self.pools.write(dataset, bytes_)
            self.pools.snapshot(dataset, snap)

    def exists(self, name: str, path: str) -> bool:
        """Whether a machine has a dataset."""
        return path in self.datasets(name)

    def datasets(self, name: str) -> list[str]:
        """The paths below a machine's root."""
        listed = self.pools.zfs("list", "-Hpr", "-o", "name", self.machines[name].pool).decode().splitlines()
        root = f"{self.roots[name]}/"
        return [dataset.removeprefix(root) for dataset in listed if dataset.startswith(root)]

    def run(self, *names: str, status: int = 0) -> str:
        """Run these machines' agents one after the other; what they said."""
        return "".join(self.machines[name].agent("run", status) for name in names)

    def report(self, *names: str) -> None:
        """Let these machines report, all of them if none is named."""
        for name in names or self.machines:
            self.machines[name].agent("report")

    def actions(self) -> list[str]:
        """What the plan has, as "type target dataset"."""
        return [f"{action['action_type']} {action['target_dataset']}" for action in self.site.actions(self.name)]

    def settled(self) -> None:
        """Nothing is planned, and the witness takes everything to be in sync."""
        self.report()
        assert self.site.not_in_sync(self.name) == []
        assert self.actions() == []

    def guids(self, name: str, path: str) -> dict[str, str]:
        """The snapshots of a dataset, oldest first: guid to name."""
        dataset = self.on(name, path)
        listed = self.pools.zfs("list", "-Hpd1", "-t", "snapshot", "-o", "name,guid", "-s", "createtxg", dataset)
        rows = [line.split("\t") for line in listed.decode().splitlines()]
        return {guid: full.partition("@")[2] for full, guid in rows}

    def same(self, path: str, source: str = "nas", *targets: str, common: int = 1) -> None:
        """The targets end with the source's newest snapshot; what is common, at least so many, has equal contents."""
        here = self.guids(source, path)
        for target in targets or [name for name in self.machines if name != source]:
            there = self.guids(target, path)
            assert list(there)[-1:] == list(here)[-1:], (target, path)
            both = [guid for guid in here if guid in there]
            assert len(both) >= common
            for guid in both:
                left = contents(self.pools, f"{self.on(source, path)}@{here[guid]}")
                assert left
                assert contents(self.pools, f"{self.on(target, path)}@{there[guid]}") == left

    def resolve(self, path: str, winner: str, discard: bool) -> dict[str, Any]:
        """Decide the one conflict of a dataset; the conflict as it was."""
        group = self.site.group(self.name)
        found = [
            row for row in self.site.call("GET", f"/conflicts/{group}")["conflicts"]
            if row["dataset"] == path and row["type"] != "missing"
        ]  # fmt: skip
        assert len(found) == 1, found
        wish = {"system_id": self.machines[winner].id, "discard": discard}
        self.site.call("POST", f"/conflicts/{found[0]['id']}/resolve", {"strategy": "manual", "resolution_data": wish})
        return dict(found[0])


def contents(pools: RealPools, snapshot: str) -> dict[str, str]:
    """The checksums of all files in a snapshot by path, or of a volume's bytes."""
    dataset = snapshot.partition("@")[0]
    if pools.zfs("get", "-Hpo", "value", "type", dataset) == b"volume\n":
        with open_volume(snapshot, "rb") as device:
            return {"": hashlib.file_digest(device, "sha256").hexdigest()}
    where = pools.folder / "looking"
    where.mkdir(exist_ok=True)
    subprocess.run(["/bin/mount", "-t", "zfs", "-o", "ro", snapshot, where], check=True)
    try:
        files = [path for path in sorted(where.rglob("*")) if path.is_file()]
        return {str(path.relative_to(where)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    finally:
        subprocess.run(["/bin/umount", where], check=True)


@contextmanager
def user(name: str) -> Iterator[str]:
    """A new user of this machine, who can log in with a key only."""
    subprocess.run(["useradd", "-M", "-s", "/bin/sh", "-p", "*", name], check=True)
    try:
        yield name
    finally:
        subprocess.run(["userdel", "-f", name], check=True)  # though a connection of it lingers


def make_key(path: Path) -> None:
    """An ssh key without a passphrase, and its public part beside it."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.stem, "-f", path], check=True)


def wait_until(done: Any, timeout_s: float = 120) -> None:
    """Return as soon as a condition holds."""
    until = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.1)
