"""The tick: once in tick_s, one process of all that share a store looks at what is late or wrong, and tells."""

import logging
import os
import socket
import threading
import urllib.request
import uuid
from datetime import UTC, datetime, timedelta

import msgspec

from handlers.alerts import is_quiet, look
from handlers.notify import NotDelivered, deliver, fetch, stuck_messages
from handlers.request import Caller, Request, Witness
from store import ALERTS, Busy, StoreError
from store.documents import Tick

EARLY = 0.1  # of tick_s: cron does not call to the second

log = logging.getLogger("zfs_sync.tick")


def tick(witness: Witness, now: datetime | None = None) -> bool:
    """Look, tell and tidy, unless some process did so less than tick_s ago. Says whether it was done now."""
    request = Request(
        witness=witness,
        caller=Caller(key_id="witness"),
        now=now or datetime.now(UTC),
        id=uuid.uuid4().hex,
        address="local",
        headers={},
    )
    if not _claim(request):
        return False
    look(request)
    if not is_quiet(request):
        deliver(request)
    _tidy(request)
    _ping(request)
    return True


def last_tick(witness: Witness) -> Tick | None:
    """When some process last looked."""
    ticks = witness.store.read(ALERTS).ticks
    return ticks.get("last") if "last" in ticks else None


def seconds_until_due(witness: Witness, now: datetime) -> float:
    """When the next tick should be; one that lies in the future, since a clock was set back, does not count."""
    last = last_tick(witness)
    tick_s = witness.config.tick_s
    if last is None or last.started_at > now + timedelta(seconds=tick_s):
        return 0.0
    return max(0.0, tick_s - (now - last.started_at).total_seconds())


def _claim(request: Request) -> bool:
    """Take this tick, so that nobody else does."""
    early_s = request.config.tick_s * EARLY
    if seconds_until_due(request.witness, request.now) > early_s:
        return False
    with request.store.transaction(ALERTS) as tx:
        ticks = tx[ALERTS].ticks
        before = ticks.get("last") if "last" in ticks else None
        if before is not None:
            since_s = (request.now - before.started_at).total_seconds()
            if -request.config.tick_s <= since_s < request.config.tick_s - early_s:
                return False
        by = f"{socket.gethostname()}:{os.getpid()}"
        if before is None:
            ticks.put(Tick(id="last", started_at=request.now, by=by))
        else:
            ticks.put(msgspec.structs.replace(before, started_at=request.now, by=by))
    return True


def _tidy(request: Request) -> None:
    """Once a day, drop what is older than the settings say."""
    today = f"{request.now:%Y-%m-%d}"
    with request.store.transaction(ALERTS) as tx:
        last = tx[ALERTS].ticks.get("last")
        if last.tidied_on == today:
            return
        tx[ALERTS].ticks.put(msgspec.structs.replace(last, tidied_on=today))
    request.store.drop_old_events(request.config.event_days, request.now)
    request.store.drop_old_history(request.config.history_days, request.now)


def _ping(request: Request) -> None:
    """Call ping_url, unless messages are stuck: a witness that nobody hears is not well."""
    address = request.config.ping_url
    if address is None:
        return
    if stuck := stuck_messages(request.store):
        log.warning("ping_url is not called: %d messages are stuck, the last with: %s", len(stuck), stuck[-1].error)
        return
    try:
        fetch(urllib.request.Request(address))  # noqa: S310  # the configuration allows http and https only
    except NotDelivered as error:
        log.warning("ping_url: %s", error)


class Ticker:
    """A thread that ticks whenever it is time, as long as the process serves."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End it, after the tick that runs now if it takes no longer than a few seconds."""
        self._ended.set()
        if self._thread.is_alive():  # a signal may come before it has begun
            self._thread.join(5)

    def _run(self) -> None:
        while not self._ended.is_set():
            wait_s = 1.0
            try:
                if not tick(self._witness):
                    wait_s = max(0.2, seconds_until_due(self._witness, datetime.now(UTC)))
            except (Busy, StoreError) as error:
                log.warning("no tick: %s", error)
                wait_s = min(10.0, self._witness.config.tick_s)
            except Exception:
                log.exception("the tick failed")
                wait_s = min(60.0, self._witness.config.tick_s)
            self._ended.wait(wait_s)
