"""What `zfs_sync.py demo` shows: three systems of a household, as their agents would have reported them.

A NAS sends everything to a backup box, and a part of it to a box at a friend's house. Most is in sync. On the backup
box, photos are days behind, somebody wrote into documents, a large transfer of films broke off, one of series runs
now, and paperless was never sent. The box at the friend's house was last heard from nine days ago.
"""

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import config
from cli import signals
from cli.door import Here
from cli.serve import address_of, listen, run_server
from cli.terminal import OpenWitness
from cli.views import groups_named, print_status
from handlers.keys import create_key
from handlers.local import ask, request_here
from handlers.request import Caller, Witness

# It stays as it is for a day: nobody reports again while one looks at it.
SETTINGS = """\
heartbeat_timeout_s: 604800
lease_s: 86400
groups:
  - name: backup
    description: everything, every day
    hub: nas
    systems:
      nas: {root: tank}
      backup: {root: vault/nas}
    sync_interval_seconds: 86400
    stale_after_seconds: 604800
  - name: offsite
    description: what cannot be bought again, every week
    hub: nas
    systems:
      nas: {root: tank}
      offsite: {root: pool1/nas}
    datasets: {include: [documents, photos, "home/**"]}
    snapshots: {exclude: ["hourly-*"]}
    sync_interval_seconds: 604800
    stale_after_seconds: 2592000
"""
HOUR, DAY = 3600, 86400
MB, GB = 10**6, 10**9


@dataclass(frozen=True, slots=True)
class Shot:
    """A snapshot: `guid` says which, wherever it lies."""

    name: str
    guid: int
    creation: int
    written: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset on one box, its snapshots oldest first."""

    path: str
    size: int
    per_hour: int  # bytes written
    kind: str = "filesystem"
    shots: tuple[Shot, ...] = ()
    partial: str = "-"  # the resume token of a receive that broke off

    def until(self, moment: float) -> "Dataset":
        """The same as it was then."""
        return replace(self, shots=tuple(shot for shot in self.shots if shot.creation <= moment))


HOUSEHOLD = (
    Dataset("documents", 38 * GB, 4 * MB),
    Dataset("home", 98304, 0),
    Dataset("home/anna", 212 * GB, 30 * MB),
    Dataset("home/ben", 87 * GB, 11 * MB),
    Dataset("media", 131072, 0),
    Dataset("media/films", 3400 * GB, 0),
    Dataset("media/music", 410 * GB, 0),
    Dataset("media/series", 1900 * GB, 650 * MB),
    Dataset("paperless", 6 * GB, 2 * MB),
    Dataset("photos", 780 * GB, 90 * MB),
    Dataset("vm", 98304, 0),
    Dataset("vm/git", 14 * GB, 1 * MB),
    Dataset("vm/homeassistant", 32 * GB, 25 * MB, "volume"),
)

# Two snapshots made by hand around 640 GB of new films, and what zfs shows of the receive that broke off after 212 GB
BEFORE = ("before-reels", 7302164485920133846)
AFTER = ("family-reels", 11598241190347762815)
BROKEN_OFF = (
    "1-1439db431a-130-789c636064000310a500c4ec50360710e72765a5269740f80cd8e4d3d28a534b18e00024cf86249f545"
    "9925a0c92f0d08f31c4a2bf243fbd34338581a13ee7f7cc97565f175820c97382e5f31273538174625eb67e6e6a4a66a27e5"
    "a664e6eb1435a626e664ea56e516a6a0ec87c0da87a98b96945f9b9109321e09ad0bea097f561a920fb791910fecd492c4a4"
    "f4dcac94fcececf86b99f1b493e393fb7a028b5b818220b0100439e2fef"
)


def demo(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Serve the example from a folder that goes when the server ends."""
    signals.end_quietly()
    folder = Path(tempfile.mkdtemp(prefix="zfs-sync-demo-"))
    ours = os.getpid()
    try:
        file = folder / "zfs_sync.yaml"
        file.write_text(f"port: {options.port}\n{SETTINGS}")
        settings = config.load(file, {})
        listener = listen(settings)
        settings = replace(settings, port=listener.getsockname()[1])
        witness = open_witness(settings)
        fill(witness, datetime.now(UTC))
        _invite(witness)
        run_server(settings, listener, lambda: open_witness(settings))
        return 0
    finally:
        if os.getpid() == ours:  # gunicorn's workers leave by here, too
            shutil.rmtree(folder)


def _invite(witness: Witness) -> None:
    """Print where everything stands, and what to try."""
    request = request_here(witness)
    door = Here(request)
    groups = groups_named(door, None)
    print_status([door.ask("show_status", group_id=group["id"]) for group in groups], door)
    viewer, admin = create_key(request, "viewer"), create_key(request, "admin")
    address = address_of(witness.config)
    print(f"""
The API: {address}   its groups: {witness.config.file}
viewer key  {viewer}
admin key   {admin}

Try, in another terminal:
  curl -H 'X-API-Key: {viewer}' {address}/sync/{groups[0]["id"]}/status
  curl -H 'X-API-Key: {viewer}' -H 'Accept: text/tab-separated-values' {address}/sync/{groups[0]["id"]}/instructions
  curl -H 'X-API-Key: {viewer}' {address}/conflicts
  curl -H 'X-API-Key: {viewer}' {address}/sync/{groups[0]["id"]}/prunable
  {sys.executable} {sys.argv[0]} conflicts --config {witness.config.file}
Ctrl-C ends it and removes everything.""")
    sys.stdout.flush()


def fill(witness: Witness, now: datetime) -> None:
    """Register the three systems, and report what they hold as their agents would have done."""
    earlier, last_seen = now - timedelta(hours=1), now - timedelta(days=9)
    nas = _register(witness, "nas", now - timedelta(days=200))
    for moment in (earlier, now):
        _report(witness, nas, "tank", _on_nas(moment, now), moment)
    backup = _register(witness, "backup", now - timedelta(days=200))
    for moment in (earlier, now):
        _report(witness, backup, "vault/nas", _on_backup(moment, now), moment)
    offsite = _register(witness, "offsite", now - timedelta(days=90))
    _report(witness, offsite, "pool1/nas", _on_offsite(last_seen), last_seen)
    _begin_transfer(witness, nas, "vault/nas/media/series", now)


# --- what lies where -----------------------------------------------------------------------------


def _on_nas(moment: datetime, now: datetime) -> Iterator[Dataset]:
    """The NAS at a moment: 24 hourly snapshots and 14 daily ones of everything."""
    for dataset in HOUSEHOLD:
        shots = [
            *_every(dataset, moment, DAY, 14, "daily-%Y-%m-%d"),
            *_every(dataset, moment, HOUR, 24, "hourly-%Y-%m-%d_%H"),
        ]
        if dataset.path == "media/films":
            before = _before_reels(now)
            shots += [Shot(*BEFORE, before, 0), Shot(*AFTER, before + 2 * HOUR, 640 * GB)]
        yield replace(dataset, shots=tuple(sorted(shots, key=lambda shot: shot.creation))).until(moment.timestamp())


def _before_reels(now: datetime) -> int:
    """When the first of the two snapshots around the new films was made: the last that the backup box has."""
    return int(now.timestamp()) // HOUR * HOUR - 5 * HOUR + 60


def _every(dataset: Dataset, moment: datetime, period_s: int, count: int, name: str) -> Iterator[Shot]:
    """The last snapshots of a schedule, each a second after its hour or day begins."""
    newest = int(moment.timestamp()) // period_s
    for number in range(newest - count + 1, newest + 1):
        creation = number * period_s + (1 if period_s == DAY else 0)
        named = datetime.fromtimestamp(creation, UTC).strftime(name)
        written = dataset.per_hour if period_s == HOUR else 24 * dataset.per_hour
        yield Shot(named, _guid(f"{dataset.path}@{named}"), creation, written)


def _on_backup(moment: datetime, now: datetime) -> Iterator[Dataset]:
    """The backup box, with what went wrong there."""
    unix = now.timestamp()
    for dataset in _on_nas(moment, now):
        match dataset.path:
            case "paperless":
                continue
            case "photos":
                yield dataset.until(unix - 3 * DAY)
            case "media/series":
                yield dataset.until(unix - 6 * HOUR)
            case "media/films":
                yield replace(dataset.until(_before_reels(now)), partial=BROKEN_OFF)
            case "documents":
                before = dataset.until(unix - 3 * DAY)
                edited = Shot("edited-here", _guid("edited"), int(unix - 2 * DAY), 4 * MB)
                yield replace(before, shots=(*before.shots, edited))
            case _:
                yield dataset


def _on_offsite(moment: datetime) -> Iterator[Dataset]:
    """The box at the friend's house: the daily snapshots of a few."""
    for dataset in HOUSEHOLD:
        if dataset.path.split("/")[0] in ("documents", "home", "photos"):
            yield replace(dataset, shots=tuple(_every(dataset, moment, DAY, 14, "daily-%Y-%m-%d")))


def _guid(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) | 1


# --- reporting it --------------------------------------------------------------------------------


def _register(witness: Witness, hostname: str, at: datetime) -> str:
    body = {"hostname": hostname, "ssh_user": "zfs-sync", "ssh_hostname": f"{hostname}.home.arpa"}
    registered = ask(request_here(witness, now=at), "register_system", body=body)
    return str(registered["id"])


def _report(witness: Witness, system_id: str, root: str, datasets: Iterable[Dataset], at: datetime) -> None:
    listing = "".join(f"{line}\n" for line in _listing(root, datasets))
    headers = {"content-type": "text/tab-separated-values"}
    agent = Caller("agent", f"agent-of-{root.partition('/')[0]}", system_id)
    request = request_here(witness, now=at, caller=agent, headers=headers, raw=listing.encode())
    ask(request, "replace_inventory", system_id=system_id)


def _listing(root: str, datasets: Iterable[Dataset]) -> Iterator[str]:
    """Lines as `zfs list -Hp` prints them, in the columns that a report has when it names none."""
    pool = root.partition("/")[0]
    for parent in dict.fromkeys([pool, root]):
        yield _line(parent, "filesystem", _guid(parent), 1, 0, 98304, 98304, 0)
    for dataset in datasets:
        name = f"{root}/{dataset.path}"
        yield _line(name, dataset.kind, _guid(name), 100, 0, dataset.size, dataset.size, 0, dataset.partial)
        for place, shot in enumerate(dataset.shots):
            txg = shot.creation // 5 + place
            yield _line(f"{name}@{shot.name}", "snapshot", shot.guid, txg, shot.creation, 0, dataset.size, shot.written)


def _line(
    name: str,
    kind: str,
    guid: int,
    txg: int,
    creation: int,
    used: int,
    referenced: int,
    written: int,
    partial: str = "-",
) -> str:
    return "\t".join(map(str, (name, kind, guid, txg, creation, used, referenced, written, "off", partial, "-")))


def _begin_transfer(witness: Witness, source_id: str, target_dataset: str, now: datetime) -> None:
    """Let the source's agent take the lease on what it should send there, and say how far it is."""
    agent = Caller("agent", "agent-of-tank", source_id)
    begun = now - timedelta(minutes=4)
    plan = ask(request_here(witness, now=begun, caller=agent), "show_system_instructions", system_id=source_id)
    (action,) = [each for each in plan["actions"] if each["target_dataset"] == target_dataset]
    started = ask(request_here(witness, now=begun, caller=agent), "start_action", action_id=action["action_id"])
    headers = {"x-lease-token": started["lease_token"]}
    total = action["estimated_size"]
    progress = {"bytes_done": total * 2 // 5, "bytes_total": total}
    request = request_here(witness, now=now, caller=agent, headers=headers)
    ask(request, "report_progress", body=progress, action_id=action["action_id"])
