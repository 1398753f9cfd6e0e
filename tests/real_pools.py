"""Real pools in files, with the verbs of the ZFS model: the same call can be made on both. Needs root and OpenZFS."""

import ctypes
import fcntl
import os
import re
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from tests.zfs_values import Refused

BLKZNAME = 0x8100127D  # ioctl: the name of the volume behind /dev/zd16
BEGIN = re.compile(
    rb"\0{4}.{4}\xac\xcb\xba\xf5\x02\0{3}", re.DOTALL
)  # type, payload's length, magic of dmu_replay_record
HEAD_BYTES = 312  # a dmu_replay_record
LIBC = ctypes.CDLL(None, use_errno=True)
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


@dataclass(frozen=True)
class RealStream:
    """What `zfs send` wrote."""

    content: bytes

    def cut(self, part: int, share: float) -> "RealStream":
        """The same stream, broken off in one of its parts after a share of that part's bytes."""
        begins = [found.start() for found in BEGIN.finditer(self.content)]
        if self.content[16] & 3 == 2:
            del begins[0]  # the list of what a package contains
        if not begins:
            return self
        begin, end = [*zip(begins, [*begins[1:], len(self.content)], strict=True)][part % len(begins)]
        heads = min(2 * HEAD_BYTES, end - begin - 1)  # without the record after the first, nothing is begun
        return RealStream(self.content[: begin + heads + int((end - begin - heads - 1) * share)])


class RealPools:
    """The pools of one machine. Raises Refused with what zfs said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.key = folder / "key"
        self.key.write_bytes(bytes(range(32)))

    def zfs(self, *argv: str, stdin: bytes = b"") -> bytes:
        """Run zfs. Raises Refused."""
        return self._run("zfs", *argv, stdin=stdin)

    def _run(self, *argv: str, stdin: bytes = b"") -> bytes:
        done = subprocess.run(argv, input=stdin, capture_output=True, env=ENVIRONMENT, check=False)
        if done.returncode:
            raise Refused(done.stderr.decode().strip())
        return done.stdout

    # --- changing --------------------------------------------------------------------------------

    def create_pool(self, name: str) -> None:
        """Make a pool in a file, in which some block is embedded already, so that `send -e` means it."""
        image = self.folder / f"{name}.img"
        with image.open("wb") as file:
            file.truncate(256 << 20)
        options = ("-O", "atime=off", "-O", "compression=lz4", "-O", "mountpoint=legacy")
        self._run("zpool", "create", "-f", *options, name, str(image))
        self._write_file(name, b"x" * 600)

    def destroy_pool(self, name: str) -> None:
        """Destroy a pool and its file."""
        self._run("zpool", "destroy", "-f", name)
        (self.folder / f"{name}.img").unlink()

    def create(
        self,
        name: str,
        kind: str = "filesystem",
        *,
        encryption: str | None = None,
        properties: dict[str, str] | None = None,
    ) -> None:
        """Make a dataset."""
        options = pairs((properties or {}).items())
        if encryption:
            options += ("-o", f"encryption={encryption}", "-o", "keyformat=raw", "-o", f"keylocation=file://{self.key}")
        self.zfs("create", *options, *(("-V", "2M") if kind == "volume" else ()), name)

    def write(self, name: str, bytes_: int, *, logged: bool = True) -> None:
        """Write to a dataset; unmounting it then, or fsync, always goes through the intent log."""
        assert logged
        self.files += 1
        if self._write_file(name, os.urandom(bytes_)):
            return
        with open_volume(name) as device:
            device.seek(self.files % 200 * 8192)
            device.write(os.urandom(8192))
            os.fsync(device.fileno())
        self._run("zpool", "sync", name.partition("/")[0])

    def _write_file(self, name: str, content: bytes) -> bool:
        """Write a file into a filesystem; False for what can't be mounted, a volume."""
        where = self.folder / "mnt"
        where.mkdir(exist_ok=True)
        if LIBC.mount(name.encode(), bytes(where), b"zfs", 0, b""):  # a process for it would take half the time
            return False
        (where / f"file{self.files}").write_bytes(content)
        if LIBC.umount2(bytes(where), 0):
            raise OSError(ctypes.get_errno(), "umount2", str(where))
        return True

    def snapshot(self, name: str, snap: str, *, recursive: bool = False) -> None:
        """Snapshot a dataset, its descendants too if asked."""
        self.zfs("snapshot", *flags(r=recursive), f"{name}@{snap}")

    def bookmark(self, name: str, mark: str, bookmark: str) -> None:
        """Bookmark dataset@mark as dataset#bookmark."""
        self.zfs("bookmark", f"{name}@{mark}", f"{name}#{bookmark}")

    def hold(self, name: str, snap: str, tag: str) -> None:
        """Put a hold on a snapshot."""
        self.zfs("hold", tag, f"{name}@{snap}")

    def release(self, name: str, snap: str, tag: str) -> None:
        """Take a hold off a snapshot."""
        self.zfs("release", tag, f"{name}@{snap}")

    def rename_snapshot(self, name: str, snap: str, new: str) -> None:
        """Give a snapshot another name."""
        self.zfs("rename", f"{name}@{snap}", f"{name}@{new}")

    def destroy_snapshots(self, name: str, snaps: Sequence[str]) -> None:
        """Destroy these snapshots of a dataset."""
        self.zfs("destroy", f"{name}@{','.join(snaps)}")

    def destroy_bookmark(self, name: str, bookmark: str) -> None:
        """Destroy a bookmark."""
        self.zfs("destroy", f"{name}#{bookmark}")

    def destroy(self, name: str, *, recursive: bool = False) -> None:
        """Destroy a dataset, with its snapshots and descendants only if asked."""
        self.zfs("destroy", *flags(r=recursive), name)

    def rollback(self, name: str, snap: str, *, recursive: bool = False) -> None:
        """Go back to a snapshot."""
        self.zfs("rollback", *flags(r=recursive), f"{name}@{snap}")

    def rename(self, name: str, new: str) -> None:
        """Give a dataset another name."""
        self.zfs("rename", name, new)

    def promote(self, name: str) -> None:
        """Let a clone own the snapshots up to its origin."""
        self.zfs("promote", name)

    def load_key(self, name: str) -> None:
        """Load the key of an encryption root."""
        self.zfs("load-key", "-L", f"file://{self.key}", name)

    # --- streams ---------------------------------------------------------------------------------

    def send(
        self,
        name: str,
        end: str,
        base: str | None = None,
        *,
        intermediates: bool = False,
        raw: bool = False,
        embedded: bool = False,
    ) -> RealStream:
        """The stream of dataset@end, full or from a base: "name", "@name", "#bookmark", or a clone's "origin@snap"."""
        options = ["-L", "-c", *flags(w=raw, e=embedded)]
        if base is not None:
            full = base if "/" in base else name + (base if base[0] in "@#" else "@" + base)
            options += ["-I" if intermediates else "-i", full]
        return RealStream(self.zfs("send", *options, f"{name}@{end}"))

    def resume(self, token: str) -> RealStream:
        """The rest of the stream that a token names."""
        return RealStream(self.zfs("send", "-t", token))

    def receive(
        self,
        name: str,
        stream: RealStream,
        *,
        origin: str | None = None,
        resumable: bool = False,
        properties: dict[str, str] | None = None,
    ) -> None:
        """Receive a stream into a dataset, unmounted."""
        options = pairs((properties or {}).items()) + (("-o", f"origin={origin}") if origin else ())
        self.zfs("receive", "-u", *flags(s=resumable), *options, name, stdin=stream.content)

    def abort(self, name: str) -> None:
        """Drop the state of a stream that broke off."""
        self.zfs("receive", "-A", name)

    def token(self, name: str) -> str:
        """The receive_resume_token of a dataset."""
        return self.zfs("get", "-Hpo", "value", "receive_resume_token", name).decode().strip()

    def listing(self, columns: Sequence[str], pools: Iterable[str]) -> str:
        """What `zfs list` prints of these pools."""
        return self.zfs("list", "-Hpr", "-t", "all", "-o", ",".join(columns), *pools).decode()


def flags(**given: bool) -> list[str]:
    """One-letter options."""
    return [f"-{letter}" for letter, on in given.items() if on]


def pairs(properties: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Options -o NAME=VALUE."""
    return tuple(word for name, value in properties for word in ("-o", f"{name}={value}"))


def open_volume(name: str, mode: str = "r+b", timeout_s: float = 120) -> FileIO:
    """The device of a volume, or of its snapshot (if snapdev=visible). It appears some time after the volume."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        for path in Path("/dev").glob("zd[0-9]*"):
            if re.fullmatch(r"zd\d+", path.name) and _volume_at(path) == name:
                device = path.open(mode, buffering=0)
                assert isinstance(device, FileIO)
                return device
        time.sleep(0.1)
    raise TimeoutError(f"no device for {name}")


def _volume_at(path: Path) -> str:
    """The volume behind a device, or "" if it is gone by now."""
    answer = bytearray(256)
    try:
        with path.open("rb", buffering=0) as device:
            fcntl.ioctl(device, BLKZNAME, answer)
    except OSError:
        return ""
    return bytes(answer).partition(b"\0")[0].decode()
