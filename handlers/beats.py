"""What each call of a system leaves behind: that it was there, and when it last said that its inventory holds."""

import logging
from typing import Any

import msgspec

from handlers.events import record
from handlers.request import Request
from store import REGISTRY, Damaged, Shard, Store, View, heartbeat_of
from store.documents import Heartbeat, System

log = logging.getLogger("zfs_sync")


def beat_of(store: Store, system_id: str) -> Heartbeat | None:
    """A system's signs of life. None: it never called, or what it left is damaged, which its next call heals."""
    try:
        beats = store.read(heartbeat_of(system_id)).heartbeats
        return beats.get(system_id) if system_id in beats else None
    except Damaged:
        return None


def put_beat(request: Request, system_id: str, **changes: Any) -> Heartbeat:
    """Note that a system is there, with what else it said; what was known before. Raises NotFound if it is deleted."""
    try:
        return _put(request, system_id, changes)
    except Damaged:
        start_afresh(request, request.store.read(REGISTRY).systems.get(system_id), heartbeat_of(system_id))
        return _put(request, system_id, changes)


def _put(request: Request, system_id: str, changes: dict[str, Any]) -> Heartbeat:
    shard = heartbeat_of(system_id)
    with request.store.transaction(shard) as tx:
        request.store.read(REGISTRY).systems.get(system_id)  # it may have been deleted meanwhile
        beats = tx[shard].heartbeats
        before = beats.get(system_id) if system_id in beats else Heartbeat(id=system_id, last_seen_at=request.now)
        beats.put(msgspec.structs.replace(before, last_seen_at=request.now, **changes))
    return before


def start_afresh(request: Request, system: System, shard: Shard[View], fill: Any = None) -> None:
    """Put a new shard in place of a system's damaged one, with what `fill` puts in, and record that."""

    def begin(view: View, lost: set[str], problem: str) -> None:
        if fill is not None:
            fill(view, lost)
        record(request, "store.healed", subject=system.hostname, system_id=system.id, problem=problem)

    problem = request.store.start_afresh(shard, begin)
    if problem is not None:
        log.warning("started afresh, and the old content kept beside it: %s", problem)
