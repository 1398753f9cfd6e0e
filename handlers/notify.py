"""Messages to people: what they say, and how they get there, by apprise or a signed webhook.

A message is kept for each channel until it was delivered, tried again after a minute, then two, four ... for a day.
Whoever tries it next first puts off the attempt after, so that no two processes send it at once. A process that dies
between a delivery and its note sends it again, with the same id: a message comes at least once.
"""

import base64
import binascii
import hashlib
import hmac
import logging
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPException
from typing import Any

import msgspec

from config import Config
from handlers.events import record
from handlers.request import Request
from handlers.sync_groups import SyncGroup
from handlers.values import from_unix
from planner.alerts import Alert
from planner.model import Plan
from planner.words import span
from store import ALERTS, Store
from store.documents import Message

TIMEOUT_S = 10
FIRST_RETRY_S, LAST_RETRY_S = 60, 3600
GIVE_UP_AFTER = timedelta(days=1)
STUCK_AFTER_ATTEMPTS = 3  # then the witness is no longer well: what it says is not heard
LINES = 20  # of alerts in one message

log = logging.getLogger("zfs_sync.notify")


class NotDelivered(Exception):
    """A message did not get through. The reason holds nothing of a channel's address."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A way to somebody."""

    id: str  # stays the same while its address does, and tells nothing of it
    name: str
    send: Callable[[dict[str, Any], int], None]  # a message's body, and the Unix time; raises NotDelivered


def channels_of(config: Config) -> dict[str, Channel]:
    """The configured ways, by id."""
    found = [Channel(_id_of(address), address.partition(":")[0], _apprise(address)) for address in config.notify]
    if config.webhook_url is not None:
        found.append(
            Channel(_id_of(config.webhook_url), "webhook", _webhook(config.webhook_url, config.webhook_secret))
        )
    return {channel.id: channel for channel in found}


def _id_of(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:16]


# --- what is said --------------------------------------------------------------------------------


def alerts_message(request: Request, alerts: Sequence[Alert]) -> dict[str, Any]:
    """A message about what began and what is over."""
    raised = [alert for alert in alerts if alert.recovered_at is None]
    over = [alert for alert in alerts if alert.recovered_at is not None]
    raised.sort(key=lambda alert: (alert.trouble.severity != "critical", alert.since))
    counts = [(len(raised), "new"), (len(over), "over")]
    lines = [f"{alert.trouble.severity.upper()}: {alert.trouble.text}" for alert in raised]
    lines += [f"over after {span(_lasted_s(alert))}: {alert.trouble.text}" for alert in over]
    title = "ZFS Sync: " + ", ".join(f"{count} {word}" for count, word in counts if count)
    severities = {alert.trouble.severity for alert in raised}
    level = "critical" if "critical" in severities else "warning" if raised else "ok"
    return _body(request, "alerts", title, lines, level, [_alert_json(alert) for alert in (*raised, *over)])


def _lasted_s(alert: Alert) -> float:
    return (alert.recovered_at or alert.since) - alert.since


def digest_message(
    request: Request, alerts: Iterable[Alert], groups: Iterable[tuple[SyncGroup, Plan]]
) -> dict[str, Any]:
    """The daily summary: how each group stands, and what is wrong."""
    lines = []
    for group, plan in groups:
        counts = Counter("late" if cell.late else cell.status.replace("_", " ") for cell in plan.cells)
        stands = ", ".join(f"{count} {word}" for word, count in sorted(counts.items())) or "nothing to sync"
        lag_s = max((cell.lag_s for cell in plan.cells), default=0)
        lines.append(f"{group.name}: {stands}" + (f"; the oldest lag is {span(lag_s)}" if lag_s else ""))
    force = [alert for alert in alerts if alert.raised_at is not None and alert.recovered_at is None]
    lines += [
        f"{alert.trouble.severity.upper()} for {span(_age_s(request, alert))}: {alert.trouble.text}" for alert in force
    ]
    title = f"ZFS Sync: {len(force)} alerts in force" if force else "ZFS Sync: all is well"
    level = "warning" if force else "ok"
    return _body(request, "digest", title, lines, level, [_alert_json(alert) for alert in force])


def _age_s(request: Request, alert: Alert) -> float:
    return max(0.0, request.now.timestamp() - alert.since)


def test_message_of(request: Request) -> dict[str, Any]:
    """What `notify --test` sends."""
    return _body(request, "test", "ZFS Sync: a test", ["If you read this, alerts will reach you."], "ok", [])


def _body(
    request: Request, kind: str, title: str, lines: list[str], level: str, alerts: list[dict[str, Any]]
) -> dict[str, Any]:
    shown = lines if len(lines) <= LINES else [*lines[: LINES - 1], f"and {len(lines) - LINES + 1} more"]
    return {
        "type": kind,
        "timestamp": f"{request.now:%Y-%m-%dT%H:%M:%SZ}",
        "level": level,
        "title": title,
        "text": "\n".join(shown),
        "alerts": alerts,
    }


def _alert_json(alert: Alert) -> dict[str, Any]:
    trouble = alert.trouble
    return {
        "id": trouble.id,
        "state": "raised" if alert.recovered_at is None else "over",
        "kind": trouble.kind,
        "severity": trouble.severity,
        "text": trouble.text,
        "sync_group_id": trouble.group_id,
        "system_id": trouble.system_id,
        "dataset": trouble.dataset,
        "since": msgspec.to_builtins(from_unix(int(alert.since))),
    }


# --- how it gets there ---------------------------------------------------------------------------


def put_messages(request: Request, messages: Any, body: dict[str, Any]) -> None:
    """Keep a message for each channel, to be delivered next."""
    for channel_id in channels_of(request.config):
        message_id = f"{request.now:%Y%m%dT%H%M%S}-{body['type']}-{channel_id}-{request.id[:8]}"
        messages.put(Message(id=message_id, channel=channel_id, body=body, made_at=request.now, next_at=request.now))


def deliver(request: Request) -> None:
    """Try every message that is due."""
    channels = channels_of(request.config)
    while (message := _claim(request)) is not None:
        channel = channels.get(message.channel)
        error = None
        if channel is not None:  # else its address left the configuration
            try:
                channel.send({"id": message.id, **message.body}, int(request.now.timestamp()))
                log.info("told by %s: %s", channel.name, message.body["title"], extra={"message_id": message.id})
            except NotDelivered as reason:
                error = str(reason)
                log.warning("not told by %s: %s", channel.name, error, extra={"message_id": message.id})
        _settle(request, message, channel.name if channel else "", error)


def _claim(request: Request) -> Message | None:
    """A message that is due, put off for all others."""
    if not any(each.next_at <= request.now for each in request.store.read(ALERTS).messages.all()):
        return None
    with request.store.transaction(ALERTS) as tx:
        messages = tx[ALERTS].messages
        due = [each for each in messages.all() if each.next_at <= request.now]
        if not due:
            return None
        wait_s = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** min(due[0].attempts, 20))
        claimed = msgspec.structs.replace(
            due[0], attempts=due[0].attempts + 1, next_at=request.now + timedelta(seconds=wait_s)
        )
        messages.put(claimed)
        return claimed


def _settle(request: Request, message: Message, channel: str, error: str | None) -> None:
    with request.store.transaction(ALERTS) as tx:
        messages = tx[ALERTS].messages
        if message.id not in messages:
            return
        if error is None:
            messages.remove(message.id)
        elif request.now - message.made_at >= GIVE_UP_AFTER:
            messages.remove(message.id)
            record(request, "message.lost", subject=message.body["title"], channel=channel, error=error)
        else:
            messages.put(msgspec.structs.replace(message, error=error))


def waiting_messages(store: Store) -> list[Message]:
    """Messages that were not delivered yet, the oldest first."""
    return sorted(store.read(ALERTS).messages.all(), key=lambda each: each.made_at)


def stuck_messages(store: Store) -> list[Message]:
    """Messages that failed again and again."""
    return [each for each in waiting_messages(store) if each.attempts >= STUCK_AFTER_ATTEMPTS]


def send_test(request: Request) -> list[tuple[str, str | None]]:
    """Send a test over every channel at once: the name of each, and why it failed, None if it did not."""
    outcomes: list[tuple[str, str | None]] = []
    body = {"id": f"test-{request.id}", **test_message_of(request)}
    for channel in channels_of(request.config).values():
        try:
            channel.send(body, int(request.now.timestamp()))
            outcomes.append((channel.name, None))
        except NotDelivered as error:
            outcomes.append((channel.name, str(error)))
    return outcomes


def _apprise(address: str) -> Callable[[dict[str, Any], int], None]:
    def send(body: dict[str, Any], at: int) -> None:
        try:
            import apprise
        except ImportError:
            raise NotDelivered("apprise is not installed: pip install apprise") from None
        for name in ("apprise", "urllib3"):  # they log addresses, secrets included
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            sender = apprise.Apprise()
            known = sender.add(address)
            level = {"critical": "failure", "warning": "warning", "ok": "success"}[body["level"]]
            text = body["text"] or body["title"]
            delivered = known and sender.notify(body=text, title=body["title"], notify_type=level)
        except Exception as error:  # of one of a hundred services: it holds up no other channel
            raise NotDelivered(f"apprise failed: {type(error).__name__}") from None
        if not known:
            raise NotDelivered(f"apprise knows no such address ({address.partition(':')[0]}://...)")
        if not delivered:
            raise NotDelivered("apprise could not deliver it")

    return send


def _webhook(address: str, secret: str | None) -> Callable[[dict[str, Any], int], None]:
    def send(body: dict[str, Any], at: int) -> None:
        raw = msgspec.json.encode(body)
        headers = {"Content-Type": "application/json", "User-Agent": "zfs-sync"}
        headers |= {"webhook-id": body["id"], "webhook-timestamp": str(at)}
        if secret is not None:
            headers["webhook-signature"] = signature(secret, body["id"], at, raw)
        fetch(urllib.request.Request(address, data=raw, headers=headers, method="POST"))  # noqa: S310  # config: http(s)

    return send


def signature(secret: str, message_id: str, at: int, raw: bytes) -> str:
    """What proves that a message is ours, by standardwebhooks.com: HMAC-SHA-256 over its id, time and bytes."""
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    mac = hmac.new(key, f"{message_id}.{at}.".encode() + raw, hashlib.sha256)
    return "v1," + binascii.b2a_base64(mac.digest(), newline=False).decode()


def fetch(request: urllib.request.Request) -> None:
    """Send a request and want a 2xx. Raises NotDelivered."""
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310  # the configuration allows http and https only
            pass
    except urllib.error.HTTPError as error:
        error.close()
        raise NotDelivered(f"it answered {error.code}") from None
    except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError
        raise NotDelivered(f"it cannot be reached: {getattr(error, 'reason', error)}") from None
