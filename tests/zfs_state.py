"""The ZFS model in a folder: a host that a program and a test share, and its streams as bytes in a pipe."""

import fcntl
import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from tests.zfs_model import Pools
from tests.zfs_values import Part, Refused, Stream

LONGEST_LINE = 65536  # a block is at most so many bytes in the pipe, whatever its size


@contextmanager
def pools_in(folder: Path) -> Iterator[Pools]:
    """A host's pools, for changing: nobody else has them meanwhile. Saved also when the change is refused."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = folder / "pools"
        pools = Pools()
        if state.exists():
            pools.now, pools.txg, pools.datasets = pickle.loads(state.read_bytes())
        try:
            yield pools
        finally:
            waiting = folder / "pools.new"
            waiting.write_bytes(pickle.dumps((pools.now, pools.txg, pools.datasets)))
            waiting.replace(state)


def lines_of(stream: Stream) -> Iterator[bytes]:
    """A stream as lines of JSON: what it is, then for each part its head, a line a block, and its end."""
    yield _line({"stream": {**asdict(stream), "parts": []}})
    for part in stream.parts:
        yield _line({"part": {**asdict(part), "blocks": [], "complete": False}})
        for block in part.blocks:
            yield _line({"block": (*block, "." * min(block[1], LONGEST_LINE))})
        yield _line({"end": part.to_guid})


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


class Reader:
    """Puts a stream together from its lines; whatever came last may be missing."""

    def __init__(self) -> None:
        self.stream: Stream | None = None

    def add(self, line: bytes) -> None:
        """Take one more line, or the begin of one. Raises Refused for what is no stream."""
        if not line.endswith(b"\n"):
            return
        try:
            ((what, value),) = json.loads(line).items()
        except ValueError:
            raise Refused("cannot receive: invalid stream (bad magic number)") from None
        if what == "stream":
            self.stream = Stream(**{**value, "parts": ()})
            return
        assert self.stream is not None
        parts = self.stream.parts
        if what == "part":
            parts = (*parts, Part(**{**value, "blocks": ()}))
        elif what == "block":
            parts = (*parts[:-1], replace(parts[-1], blocks=(*parts[-1].blocks, (value[0], value[1]))))
        else:
            parts = (*parts[:-1], replace(parts[-1], complete=True))
        self.stream = replace(self.stream, parts=parts)
