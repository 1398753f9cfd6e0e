"""How often somebody may try: counted in the store, so right for all workers and instances that share it.

A sliding window of two counters: what was counted in the period before fades as the present one goes by. So there
are as many numbers for a caller as there are for any other, however often it tries.
"""

import ipaddress
import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from handlers.errors import TooMany
from handlers.request import ADDRESS, CALLER
from store import LIMITS, Busy, Store, StoreError, Table
from store.documents import Attempts

MOST = 2000  # callers remembered: an attacker with a thousand addresses pushes out the oldest, and locks out nobody


def count_attempt(store: Store, purpose: str, rule: str, who: str, now: datetime) -> None:
    """Count an attempt of `who` (an address or a key's id). Raises TooMany, with Retry-After, past a rule (10/minute).

    One that is refused is not counted and writes nothing, however many there are. A store that cannot be written
    refuses nobody: what is limited here is guarded by more than its number.
    """
    amount, period = _parsed(rule)
    id = f"{purpose} {network_of(who)}"
    try:
        counted = store.read(LIMITS).attempts
        _require_room(_at(counted, id, now, period), amount, period, now)
        with store.transaction(LIMITS) as tx:
            attempts = tx[LIMITS].attempts
            before = _at(attempts, id, now, period)
            _require_room(before, amount, period, now)
            _forget(attempts, now)
            ends_at = before.started_at + 2 * period
            attempts.put(Attempts(id, before.started_at, ends_at, before.count + 1, before.earlier))
    except Busy:
        raise TooMany("too many attempts at this moment; try again", headers={"Retry-After": "1"}) from None
    except StoreError:
        return


def caller_in(environ: Mapping[str, Any]) -> str:
    """Who counts as one caller of a request: the id of the key that was accepted, else whence it came."""
    return environ.get(CALLER) or network_of(environ.get(ADDRESS) or "")


def network_of(address: str) -> str:
    """What counts as one caller: an IPv4 address, or the /64 within which anybody has as many as they like."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


@lru_cache(maxsize=16)
def _parsed(rule: str) -> tuple[int, timedelta]:
    from limits import parse

    item = parse(rule)
    return item.amount, timedelta(seconds=item.get_expiry())


def _at(attempts: "Table[Attempts]", id: str, now: datetime, period: timedelta) -> Attempts:
    """What is counted of a caller, as of now: a period that is over becomes the earlier one, or is forgotten."""
    fresh = Attempts(id, now, now + 2 * period, 0, 0)
    known = attempts.get(id) if id in attempts else fresh
    age = now - known.started_at
    if age >= 2 * period or age < -period:  # long ago, or a clock was set back
        return fresh
    if age >= period:
        return Attempts(id, known.started_at + period, known.ends_at + period, 0, known.count)
    return known


def _require_room(found: Attempts, amount: int, period: timedelta, now: datetime) -> None:
    period_s = period.total_seconds()
    left_s = min(period_s, period_s - (now - found.started_at).total_seconds())
    if math.floor(found.earlier * left_s / period_s + found.count) < amount:
        return
    room_from = 0.0 if found.count >= amount else (amount - found.count) / found.earlier * period_s
    wait_s = math.floor(max(0.0, left_s - room_from)) + 1
    raise TooMany("too many attempts; wait and try again", headers={"Retry-After": str(wait_s)})


def _forget(attempts: "Table[Attempts]", now: datetime) -> None:
    """Drop what no longer counts and, of too many, those that began first."""
    found = sorted(attempts, key=lambda each: each.started_at)
    for place, each in enumerate(found):
        if each.ends_at <= now or place <= len(found) - MOST:
            attempts.remove(each.id)
