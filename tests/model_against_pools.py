"""Ask real pools whether the model of ZFS is right: the same random operations on both, and what differs.

Run as root where OpenZFS works: `python3 -m tests.model_against_pools --seeds 20 [--first S] [--folder FOLDER]`.
It makes pools modela and modelb in files and destroys them. A seed's operations stop at the first difference.
"""

import argparse
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from planner.resume import decode_resume_token
from tests.random_operations import Operation, Random, Transfer, beginning, choose, host_of
from tests.real_pools import RealPools
from tests.zfs_model import Pools
from tests.zfs_values import Refused, Stream

COLUMNS = ("name", "type", "guid", "written", "userrefs", "receive_resume_token", "origin", "encryption", "ivsetguid")
POOLS = ("modela", "modelb")
KINDS = {  # why zfs refuses: how it says so
    "cut": r"incomplete stream|failed to read from stream",
    "written to": r"has been modified",
    "no common base": r"does not\s+match incremental source",
    "base not earlier": r"not (?:an )?earlier|incremental source \(.*\) does not exist",
    "target exists": r"exists\s+must specify -F",
    "name taken": r"already exists|bookmark exists",
    "absent": r"does not exist|no longer exists|could not find|no such tag",
    "partial": r"partially-complete state",
    "nothing partial": r"does not have any resumable|no partially received",
    "busy": r"is busy|dependent clones[^%]*/%recv",  # a state that broke off, which is named or not
    "clones": r"dependent clones|clones of previous snapshots",
    "younger": r"more recent snapshots",
    "children": r"has children",
    "key": r"[Kk]eys? must be loaded|key is not loaded",
    "not encrypted": r"existing unencrypted dataset",
    "IV set": r"IV set guid mismatch",
    "embedded": r"embedded data|kernel modules must be upgraded",
    "bookmark for -I": r"multiple snapshots cannot be sent from a bookmark",
    "encryption root": r"outside of its encryption root",
    "not a filesystem": r"is not a filesystem",
    "other pool": r"within same pool",
    "below itself": r"cannot be a descendant",
    "not a clone": r"not a cloned filesystem",
}


def kind(said: str) -> str:
    """Why zfs refuses, in our words; what it said itself if we have none."""
    if not said:
        return "done"
    found = [word for word, pattern in KINDS.items() if re.search(pattern, said)]
    return found[0] if found else said


def is_either(said: str, real_said: str) -> bool:
    """Whether two reasons hold at once: of a resumed stream, zfs may look at its features before what it goes into."""
    return (kind(said), kind(real_said)) == ("written to", "embedded") and "cannot receive resume stream" in real_said


@dataclass
class Model:
    """Both hosts' models, one of each pool."""

    hosts: dict[str, Pools]

    def do(self, operation: Operation) -> None:
        """Carry out an operation. Raises Refused."""
        if isinstance(operation, Transfer):
            self._transfer(operation)
        else:
            pools = host_of(self.hosts, operation.name)
            getattr(pools, operation.verb)(operation.name, *operation.words, **operation.options)

    def _transfer(self, asked: Transfer) -> None:
        target = host_of(self.hosts, asked.target)
        if asked.resume:
            token = target.token(asked.target)
            assert token
            named = decode_resume_token(token)
            assert named
            stream = host_of(self.hosts, named.to_name).resume(token)
        else:
            stream = host_of(self.hosts, asked.name).send(asked.name, asked.end, asked.base, **asked.how)
        if asked.cut:
            stream = cut(stream, *asked.cut)
        target.receive(asked.target, stream, origin=asked.origin, resumable=asked.resumable)

    def listing(self) -> str:
        """Both pools."""
        return "".join(self.hosts[pool].listing(COLUMNS) for pool in POOLS)


def cut(stream: Stream, part: int, share: float) -> Stream:
    """The stream, broken off in one of its parts after a share of that part's blocks."""
    if not stream.parts:
        return stream
    at = part % len(stream.parts)
    broken = stream.parts[at]
    broken = replace(broken, blocks=broken.blocks[: max(1, int(len(broken.blocks) * share))], complete=False)
    return replace(stream, parts=(*stream.parts[:at], broken))


@dataclass
class Real:
    """The real pools."""

    pools: RealPools

    def do(self, operation: Operation) -> None:
        """Carry out an operation. Raises Refused."""
        if not isinstance(operation, Transfer):
            getattr(self.pools, operation.verb)(operation.name, *operation.words, **operation.options)
            return
        if operation.resume:
            stream = self.pools.resume(self.pools.token(operation.target))
        else:
            stream = self.pools.send(operation.name, operation.end, operation.base, **operation.how)
        if operation.cut:
            stream = stream.cut(*operation.cut)
        self.pools.receive(operation.target, stream, origin=operation.origin, resumable=operation.resumable)

    def listing(self) -> str:
        """Both pools."""
        return self.pools.listing(COLUMNS, POOLS)


class Pairs:
    """Which of the model's guids stands for which real one; each for one and the same all the time."""

    def __init__(self) -> None:
        self.real_of: dict[str, str] = {}
        self.model_of: dict[str, str] = {}

    def match(self, model: str, real: str) -> bool:
        """Whether two guids can be the same."""
        if "-" in (model, real) or "0" in (model, real):
            return model == real
        return self.real_of.setdefault(model, real) == real and self.model_of.setdefault(real, model) == model


def differences(model: str, real: str, guids: Pairs) -> list[str]:
    """What two listings do not agree on."""
    ours, theirs = ([line.split("\t") for line in listing.splitlines()] for listing in (model, real))
    names, real_names = ([(row[0], row[1]) for row in rows] for rows in (ours, theirs))
    if names != real_names:
        lost = [name for name in real_names if name not in names]
        more = [name for name in names if name not in real_names]
        return [f"only real: {lost}, only in the model: {more}" if lost or more else f"order: {names}, {real_names}"]
    found = []
    kept = {name.partition("@")[0] for name, _ in names if "@" in name}
    for row, real_row in zip(ours, theirs, strict=True):
        if "@" not in row[0] and row[0] not in kept and row[COLUMNS.index("origin")] != "-":
            row[COLUMNS.index("written")] = "-"  # a clone received without any change counts as written to, a little
            real_row[COLUMNS.index("written")] = "-"
        for column, value, real_value in zip(COLUMNS, row, real_row, strict=True):
            if not _same(column, value, real_value, guids):
                found.append(f"{row[0]}: {column} is {real_value}, in the model {value}")
    return found


def _same(column: str, model: str, real: str, guids: Pairs) -> bool:
    if column in ("guid", "ivsetguid"):
        return guids.match(model, real)
    if column == "written" and "-" not in (model, real):
        return (model == "0") == (real == "0")
    if column == "receive_resume_token" and "-" not in (model, real):
        ours, theirs = decode_resume_token(model), decode_resume_token(real)
        assert ours
        assert theirs
        same = (ours.to_name, ours.raw) == (theirs.to_name, theirs.raw) and guids.match(ours.to_guid, theirs.to_guid)
        return same and guids.match(ours.from_guid or "-", theirs.from_guid or "-")
    return model == real


def outcome(side: Model | Real, operation: Operation) -> str:
    """What zfs said, "" where it did it."""
    try:
        side.do(operation)
    except Refused as refused:
        return str(refused)
    return ""


def compare(seed: int, folder: Path, length: int, seen: Counter[str]) -> str:
    """Run a seed's operations on both. Answers what differed, or ""."""
    random = Random(seed)
    model = Model({pool: Pools((seed, pool)) for pool in POOLS})
    real = Real(RealPools(folder))
    guids = Pairs()
    done: list[str] = []
    differing: list[str] = []
    for pool in POOLS:
        model.hosts[pool].create(pool)
        real.pools.create_pool(pool)
    try:
        first = beginning(random)
        for at in range(length):
            operation = first[at] if at < len(first) else choose(random, model.hosts)
            done.append(str(operation))
            said, real_said = outcome(model, operation), outcome(real, operation)
            seen[f"{operation.what}: {kind(real_said)}"] += 1
            looks = isinstance(operation, Transfer) or not (said and real_said)  # a listing takes a third of the time
            found = differences(model.listing(), real.listing(), guids) if looks else []
            if kind(said) != kind(real_said) and not is_either(said, real_said):
                found.insert(0, f"{operation}\n  model: {said or 'done'}\n  real:  {real_said or 'done'}")
            differing += found
            if bool(said) != bool(real_said) or found[1:] or (found and kind(said) == kind(real_said)):
                break
    finally:
        for pool in POOLS:
            real.pools.destroy_pool(pool)
    return "\n".join([*done, *differing] if differing else [])


def main() -> int:
    """Compare seeds; exit status 1 if any differed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--length", type=int, default=40, help="operations a seed")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/model"))
    asked = parser.parse_args()
    seen: Counter[str] = Counter()
    failed = 0
    for seed in range(asked.first, asked.first + asked.seeds):
        began = time.monotonic()
        found = compare(seed, asked.folder, asked.length, seen)
        failed += bool(found)
        said = "DIFFERS, after:\n" + found if found else "agreed"
        print(f"seed {seed} ({time.monotonic() - began:.0f} s): {said}", flush=True)
    print("\n".join(f"{count:6} {what}" for what, count in sorted(seen.items())))
    print(f"{asked.seeds - failed} of {asked.seeds} sequences of {asked.length} operations agreed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
