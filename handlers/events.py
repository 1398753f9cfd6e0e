"""The audit trail: who did what, from where, when."""

import itertools
import logging
import secrets
from typing import Any

from handlers import answers as a
from handlers.bodies import EventQuery
from handlers.errors import Refused
from handlers.pages import paginated
from handlers.request import Answer, Request
from handlers.values import with_offset
from store import Busy, StoreError
from store.documents import Event

log = logging.getLogger("zfs_sync.events")

_order = itertools.count()  # several events of one request have one moment


def list_events(request: Request, query: EventQuery) -> Answer[list[a.Event]]:
    """List what was done, by whom, from where and when, newest first."""
    since = query.since and with_offset(query.since, "since")
    until = query.until and with_offset(query.until, "until")
    equal = {
        "what": query.what,
        "who": query.who,
        "system_id": query.system_id,
        "sync_group_id": query.sync_group_id,
    }
    wanted = {name: value for name, value in equal.items() if value is not None}
    found = [
        event
        for event in request.store.events()
        if all(getattr(event, name) == value for name, value in wanted.items())
        and (since is None or event.at >= since)
        and (until is None or event.at <= until)
    ]
    return paginated(request, "/events", query, found, present_event)


def present_event(event: Event) -> a.Event:
    """An event as the API shows it."""
    return {
        "id": event.id,
        "at": event.at,
        "what": event.what,
        "who": event.who,
        "role": event.role,
        "address": event.address,
        "system_id": event.system_id,
        "sync_group_id": event.sync_group_id,
        "subject": event.subject,
        "detail": event.detail,
        "request_id": event.request_id,
    }


def record(
    request: Request,
    what: str,
    *,
    subject: str | None = None,
    system_id: str | None = None,
    sync_group_id: str | None = None,
    **detail: Any,
) -> None:
    """Add to the audit trail that this request did `what`: within the transaction that does it, so that both are so,
    or neither."""
    caller = request.caller
    event = Event(
        id=f"{request.now:%Y%m%dT%H%M%S.%f}-{next(_order) % 10**6:06}-{secrets.token_hex(4)}",
        at=request.now,
        what=what,
        who=caller.key_id,
        role=caller.role,
        address=request.address,
        system_id=system_id or caller.system_id,
        sync_group_id=sync_group_id,
        subject=subject,
        detail=detail,
        request_id=request.id,
    )
    request.store.add_event(event)
    log.info(
        "%s: %s by %s request %s",
        what,
        (subject or "-").encode("unicode_escape").decode(),  # a line break in a name makes no line
        caller.key_id or "-",
        request.id,
        extra={name: getattr(event, name) for name in event.__struct_fields__ if name not in ("id", "at")},
    )


def record_refusal(request: Request, refused: Refused, subject: str) -> None:
    """Add a refused attempt to the audit trail: a wrong key or a key without the right. No key is not an attempt."""
    if refused.status == 403 or (refused.status == 401 and "not known" in refused.detail):
        try:
            record(request, "auth.refused", subject=subject[:300], status=refused.status)
        except (Busy, StoreError):
            return  # the refusal itself matters more than its record
