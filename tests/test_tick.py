"""The tick: what it finds over a real store, tells a real receiver, and leaves to the next one."""

import base64
import hashlib
import hmac
import logging
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from handlers.alerts import alerts_in_force
from handlers.notify import GIVE_UP_AFTER, signature
from handlers.request import Witness
from handlers.tick import Ticker, last_tick, seconds_until_due, tick
from store import ALERTS, Store, inventory_of
from store.documents import Event, Tick
from tests.boxes import COLUMNS, MEDIA, Boxes, empty_boxes, guid_of
from tests.receiver import Receiver, receiving
from tests.store_samples import content, put_content
from zfs_sync import open_witness

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
START = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def _receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def receiver(_receiver: Receiver) -> Receiver:
    _receiver.requests.clear()
    _receiver.statuses.clear()
    return _receiver


@pytest.fixture
def make_boxes(make_witness: Any, receiver: Receiver) -> Any:
    """The three boxes with a group that is due daily; messages go to the receiver."""

    def make(**settings: Any) -> Boxes:
        groups = MEDIA + "    sync_interval_seconds: 86400\n    grace_s: 600\n"
        return empty_boxes(make_witness, groups, webhook_url=f"{receiver.address}/hook", **settings)

    return make


@pytest.fixture
def boxes(make_boxes: Any) -> Boxes:
    made: Boxes = make_boxes()
    return made


def row(name: str, guid: int, made_at: datetime | None = None, **fields: Any) -> str:
    kind = "snapshot" if "@" in name else "filesystem"
    values = {"written": 0, "available": "-", **fields}
    at = int((made_at or START - 300 * DAY).timestamp())
    size = values.get("used", 1000)
    tail = "\t-\t-" if kind == "snapshot" else "\ton\t-"
    return (
        f"{name}\t{kind}\t{guid}\t{guid}\t{at}\t{size}\t1000\t{values['written']}\toff\t-\t-{tail}\t-"
        f"\t{values['available']}\t{0 if kind == 'snapshot' else '-'}\n"
    )


def report(boxes: Boxes, behind: timedelta | None = None, **pool: Any) -> None:
    """Both report a dataset with one common snapshot of today; the NAS has another, `behind` old, if that is given."""
    first = START - 10 * DAY
    nas = row("tank", 1) + row("tank/a", 2) + row("tank/a@first", guid_of("1"), first)
    vault = row("vault", 3, **pool) + row("vault/nas", 4) + row("vault/nas/a", 5)
    vault += row("vault/nas/a@first", guid_of("1"), first)
    if behind is not None:
        nas += row("tank/a@second", guid_of("2"), START - behind)
    else:
        both = guid_of("3")
        nas += row("tank/a@third", both, START)
        vault += row("vault/nas/a@third", both, START)
    boxes.nas.report(nas, COLUMNS)
    boxes.backup.report(vault, COLUMNS)


def ticks(boxes: Boxes, *after: timedelta) -> None:
    for each in after:
        assert tick(boxes.client.witness, START + each)


def in_force(boxes: Boxes) -> list[tuple[str, str | None]]:
    return [(each.kind, each.dataset) for each in alerts_in_force(boxes.client.witness.store)]


def events(boxes: Boxes, *what: str) -> list[Event]:
    return [event for event in boxes.client.witness.store.events() if event.what in what]


# --- what is told --------------------------------------------------------------------------------


def test_nothing_is_told_while_all_is_well(boxes: Boxes, receiver: Receiver) -> None:
    report(boxes)
    ticks(boxes, MINUTE, 2 * MINUTE)
    assert (in_force(boxes), receiver.requests) == ([], [])


def test_what_is_late_is_told_once_and_once_more_when_it_is_over(boxes: Boxes, receiver: Receiver) -> None:
    report(boxes, behind=2 * DAY)
    ticks(boxes, MINUTE, 2 * MINUTE, 3 * MINUTE)
    # the replica is late, and the source has taken nothing since
    assert sorted(receiver.told()) == [("raised", "late"), ("raised", "quiet")]
    assert sorted(in_force(boxes)) == [("late", "a"), ("quiet", "a")]
    (message,) = [each.json for each in receiver.posted()]
    assert (message["type"], message["level"], message["title"]) == ("alerts", "warning", "ZFS Sync: 2 new")
    assert "WARNING: vault/nas/a on backup is late: 1 snapshots, 2 days behind." in message["text"]
    report(boxes)
    ticks(boxes, 4 * MINUTE, 5 * MINUTE)
    assert sorted(receiver.told()[2:]) == [("over", "late"), ("over", "quiet")]
    over = receiver.posted()[1].json
    assert (over["level"], over["title"]) == ("ok", "ZFS Sync: 2 over")
    assert "over after 3 min: vault/nas/a on backup is late" in over["text"]
    assert in_force(boxes) == []
    told = events(boxes, "alert.raised", "alert.over")
    assert sorted(event.what for event in told) == ["alert.over"] * 2 + ["alert.raised"] * 2
    assert {(event.who, event.sync_group_id) for event in told} == {("witness", boxes.group)}


def test_alerts_survive_a_restart(boxes: Boxes, receiver: Receiver) -> None:
    report(boxes, behind=2 * DAY)
    ticks(boxes, MINUTE)
    again = open_witness(boxes.client.witness.config)
    assert tick(again, START + 2 * MINUTE)
    assert len(receiver.posted()) == 1


def test_every_trouble_that_a_store_can_show(boxes: Boxes, receiver: Receiver) -> None:
    report(boxes, used=950, available=50)
    header = {"Date": format_datetime(datetime.now(UTC) - HOUR, usegmt=True)}
    boxes.backup.call("POST", f"/systems/{boxes.backup.id}/heartbeat", {}, headers=header)
    boxes.nas.report(
        row("tank", 1) + row("tank/a", 2) + row("tank/a@fourth", 44, START), COLUMNS
    )  # first and third gone
    ticks(boxes, MINUTE)
    assert dict(in_force(boxes)) == {"conflict": "a", "guard": "tank/a", "clock": None, "pool_full": "vault"}
    boxes.backup.report(row("other", 8), COLUMNS)
    boxes.client.call("POST", f"/systems/{boxes.nas.id}/inventory/accept")
    beyond = {"Date": "Thu, 26 Nov 2026 00:00:00 +9999999999999"}
    boxes.backup.call("POST", f"/systems/{boxes.backup.id}/heartbeat", {}, headers=beyond)
    right = {"Date": format_datetime(datetime.now(UTC), usegmt=True)}
    boxes.backup.call("POST", f"/systems/{boxes.backup.id}/heartbeat", {}, headers=right)
    ticks(boxes, 2 * MINUTE, 15 * MINUTE)
    assert dict(in_force(boxes)) == {"conflict": "a", "pool_missing": "vault"}
    ticks(boxes, 2 * DAY)
    assert sorted(kind for kind, _ in in_force(boxes)) == ["conflict", "pool_missing", "silent", "silent"]


def test_a_groups_file_that_cannot_be_read_is_told(boxes: Boxes, receiver: Receiver) -> None:
    file = boxes.client.witness.config.file
    assert file is not None
    good = file.read_text()
    file.write_text(good.replace("systems:", "sistems:"))
    ticks(boxes, MINUTE)
    assert receiver.told() == [("raised", "settings")]
    assert "unknown key" in receiver.posted()[0].json["text"]
    file.write_text(good)
    ticks(boxes, 2 * MINUTE)
    assert receiver.told()[1:] == [("over", "settings")]


def test_what_cannot_be_read_is_told_and_ends_no_alert(boxes: Boxes, receiver: Receiver) -> None:
    report(boxes, behind=2 * DAY)
    ticks(boxes, MINUTE)
    store, name = boxes.client.witness.store, inventory_of(boxes.backup.id).name
    whole = content(store, name)
    assert whole is not None
    put_content(store, name, whole[:-20])
    ticks(boxes, 2 * MINUTE)
    assert sorted(kind for kind, _ in in_force(boxes)) == ["late", "quiet", "store"]
    assert name in receiver.posted()[1].json["text"]
    put_content(store, name, whole)
    ticks(boxes, 3 * MINUTE)
    assert receiver.told()[2:] == [("raised", "store"), ("over", "store")]


def test_many_alerts_make_one_message_of_a_few_lines(boxes: Boxes, receiver: Receiver) -> None:
    names = [f"d{number}" for number in range(40)]
    old, new = START - 10 * DAY, START - 2 * DAY
    boxes.nas.report(
        "".join(
            row(f"tank/{name}", n + 100) + row(f"tank/{name}@1", n + 500, old) + row(f"tank/{name}@2", n + 900, new)
            for n, name in enumerate(names)
        ),
        COLUMNS,
    )
    boxes.backup.report(
        "".join(
            row(f"vault/nas/{name}", n + 100) + row(f"vault/nas/{name}@1", n + 500, old) for n, name in enumerate(names)
        ),
        COLUMNS,
    )
    ticks(boxes, MINUTE)
    (message,) = [each.json for each in receiver.posted()]
    assert (len(message["alerts"]), len(message["text"].splitlines())) == (80, 20)
    assert message["text"].splitlines()[-1] == "and 61 more"


def test_a_conflict_that_the_tick_sees_first_gets_its_moment(boxes: Boxes, receiver: Receiver) -> None:
    report(boxes)
    boxes.backup.report(row("vault/nas/a", 5) + row("vault/nas/a@other", 99, START), COLUMNS)
    ticks(boxes, MINUTE)
    assert {event.subject for event in events(boxes, "conflict.detected")} == {"a"}


# --- how it gets there ---------------------------------------------------------------------------


def test_a_webhook_is_signed_as_standard_webhooks_are(make_boxes: Any, receiver: Receiver) -> None:
    boxes = make_boxes(webhook_secret=SECRET)
    report(boxes, behind=2 * DAY)
    ticks(boxes, MINUTE)
    (message,) = receiver.posted()
    at, id = message.headers["webhook-timestamp"], message.headers["webhook-id"]
    assert (int(at), message.json["id"]) == (int((START + MINUTE).timestamp()), id)
    mac = hmac.new(base64.b64decode(SECRET[6:]), f"{id}.{at}.".encode() + message.raw, hashlib.sha256)
    assert message.headers["webhook-signature"] == "v1," + base64.b64encode(mac.digest()).decode()
    assert message.headers["content-type"] == "application/json"


def test_signatures_are_those_of_the_standards_own_example() -> None:
    made = signature(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature("0123456789abcdef", "m", 1, b"{}") != signature("0123456789abcdeg", "m", 1, b"{}")


def test_without_a_secret_it_is_not_signed(boxes: Boxes, receiver: Receiver) -> None:
    report(boxes, behind=2 * DAY)
    ticks(boxes, MINUTE)
    assert "webhook-signature" not in receiver.posted()[0].headers


def test_what_is_refused_is_tried_again_with_the_same_id_later_and_later(boxes: Boxes, receiver: Receiver) -> None:
    receiver.statuses += [500, 302, 404]
    report(boxes, behind=2 * DAY)
    ticks(boxes, MINUTE)
    attempts = []
    for minute in range(2, 12):
        before = len(receiver.posted())
        ticks(boxes, minute * MINUTE)
        attempts += [minute] * (len(receiver.posted()) - before)
    assert attempts == [2, 4, 8]  # after one, two and four minutes; then it got through
    assert len({(each.headers["webhook-id"], each.raw) for each in receiver.posted()}) == 1
    assert boxes.client.witness.store.read(ALERTS).messages.all() == []


def test_one_channel_that_fails_holds_up_no_other(make_boxes: Any, receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nowhere = f"json://127.0.0.1:{closed.getsockname()[1]}/x"
    boxes = make_boxes(notify=f'["{nowhere}", "{receiver.address.replace("http", "json")}/apprise"]')
    report(boxes, behind=2 * DAY)
    ticks(boxes, MINUTE, 2 * MINUTE)
    assert len(receiver.posted("/hook")) == 1
    (message,) = receiver.posted("/apprise")
    assert (message.json["title"], message.json["type"]) == ("ZFS Sync: 2 new", "warning")
    (waiting,) = boxes.client.witness.store.read(ALERTS).messages.all()
    assert (waiting.attempts, waiting.error) == (2, "apprise could not deliver it")


def test_a_message_that_nobody_takes_for_a_day_is_given_up_and_recorded(boxes: Boxes, receiver: Receiver) -> None:
    receiver.statuses += [503] * 100
    report(boxes, behind=2 * DAY)
    ticks(boxes, MINUTE, GIVE_UP_AFTER)
    (waiting,) = boxes.client.witness.store.read(ALERTS).messages.all()
    assert waiting.error == "it answered 503"
    ticks(boxes, GIVE_UP_AFTER + HOUR)
    (lost,) = events(boxes, "message.lost")
    assert (lost.subject, lost.detail) == ("ZFS Sync: 2 new", {"channel": "webhook", "error": "it answered 503"})


def test_nothing_that_is_kept_or_logged_shows_a_channels_address(
    make_boxes: Any, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    taken = f"{receiver.address.replace('http', 'json')}/top-secret"
    boxes = make_boxes(
        notify=f'["ntfys://user:top-secret@127.0.0.1:1/topic-secret", "nonsense://top-secret", "{taken}"]'
    )
    receiver.statuses += [503] * 9
    report(boxes, behind=2 * DAY)
    ticks(boxes, MINUTE, 2 * MINUTE)
    errors = {each.error for each in boxes.client.witness.store.read(ALERTS).messages.all()}
    assert errors == {
        "it answered 503",
        "apprise could not deliver it",
        "apprise knows no such address (nonsense://...)",
    }
    kept = (content(boxes.client.witness.store, ALERTS.name) or b"").decode()
    for text in (caplog.text, kept, repr(boxes.client.witness.config)):
        assert "secret" not in text.replace("secret_key", "").replace("webhook_secret", "")
        assert receiver.address not in text


def test_nothing_is_told_in_quiet_hours(make_boxes: Any, receiver: Receiver) -> None:
    quiet = f"{START - HOUR:%H:%M}-{START + HOUR:%H:%M}"
    boxes = make_boxes(quiet_hours=f'"{quiet}"', digest_at=f'"{START:%H:%M}"')
    report(boxes, behind=2 * DAY)
    ticks(boxes, MINUTE, 30 * MINUTE)
    assert ([kind for kind, _ in in_force(boxes)], receiver.requests) == (["late", "quiet"], [])
    ticks(boxes, HOUR + MINUTE)
    assert sorted(each.json["type"] for each in receiver.posted()) == ["alerts", "digest"]


def test_a_digest_that_is_due_before_midnight_comes_after_quiet_hours(make_boxes: Any, receiver: Receiver) -> None:
    midnight = START.replace(hour=0, minute=0, second=0) + DAY - START
    boxes = make_boxes(digest_at='"23:30"', quiet_hours='"23:00-06:00"', webhook_secret=SECRET)
    ticks(boxes, midnight + 22 * HOUR, midnight + 23 * HOUR + 45 * MINUTE, midnight + 29 * HOUR)
    assert receiver.posted() == []
    ticks(boxes, midnight + 31 * HOUR, midnight + 32 * HOUR)
    assert [each.json["type"] for each in receiver.posted()] == ["digest"]


def test_a_digest_comes_once_a_day_whatever_happens(make_boxes: Any, receiver: Receiver) -> None:
    midnight = START.replace(hour=0, minute=0, second=0) + DAY - START
    boxes = make_boxes(digest_at='"07:30"', webhook_secret=SECRET)
    report(boxes)
    at = [7 * HOUR + 29 * MINUTE, 7 * HOUR + 30 * MINUTE, 7 * HOUR + 31 * MINUTE, 23 * HOUR, 31 * HOUR, 32 * HOUR]
    days = []
    for each in at:
        before = len(receiver.posted())
        ticks(boxes, midnight + each)
        days += [each] * sum(new.json["type"] == "digest" for new in receiver.posted()[before:])
    assert days == [7 * HOUR + 30 * MINUTE, 32 * HOUR]
    first = next(each.json for each in receiver.posted() if each.json["type"] == "digest")
    assert first["text"].startswith("media: ")


# --- once in tick_s, by one of all ---------------------------------------------------------------


def test_a_tick_is_done_once_in_tick_s(boxes: Boxes) -> None:
    witness = boxes.client.witness
    assert tick(witness, START)
    for early in (1, 30, 53):
        assert not tick(witness, START + timedelta(seconds=early))
    assert tick(witness, START + timedelta(seconds=55))  # cron does not call to the second
    assert seconds_until_due(witness, START + timedelta(seconds=65)) == 50


def test_who_ticks_can_be_told_to_stop_before_it_has_begun(boxes: Boxes) -> None:
    Ticker(boxes.client.witness).stop()


def test_a_tick_in_the_future_does_not_hold_up_the_next(boxes: Boxes) -> None:
    """A clock that was wrong has been set back."""
    witness = boxes.client.witness
    assert tick(witness, START + DAY)
    assert seconds_until_due(witness, START) == 0
    assert tick(witness, START)


def test_of_many_that_try_at_once_one_ticks(boxes: Boxes, receiver: Receiver) -> None:
    report(boxes, behind=2 * DAY)
    config = boxes.client.witness.config
    witnesses = [open_witness(config) for _ in range(6)]
    begin, done = threading.Barrier(6), []

    def attempt(witness: Witness) -> None:
        begin.wait()
        done.append(tick(witness, START + MINUTE))

    threads = [threading.Thread(target=attempt, args=(witness,)) for witness in witnesses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False] * 5 + [True]
    assert len(receiver.posted()) == 1


def test_a_message_is_tried_by_one_process_at_a_time(boxes: Boxes, receiver: Receiver) -> None:
    """A tick that takes long sends while the next one comes: it finds the message put off."""
    report(boxes, behind=2 * DAY)
    receiver.statuses += [500]
    ticks(boxes, MINUTE)
    assert tick(open_witness(boxes.client.witness.config), START + MINUTE + timedelta(seconds=59))
    assert len(receiver.posted()) == 1


def test_a_look_that_a_later_one_overtook_counts_for_nothing(boxes: Boxes, receiver: Receiver) -> None:
    report(boxes, behind=2 * DAY)
    with boxes.client.witness.store.transaction(ALERTS) as tx:
        tx[ALERTS].ticks.put(Tick(id="last", started_at=START - HOUR, by="x", looked_at=START + DAY))
    ticks(boxes, MINUTE)
    assert (in_force(boxes), receiver.requests) == ([], [])


def test_old_events_go_once_a_day(make_boxes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = make_boxes(event_days=10)
    store: Store = boxes.client.witness.store
    for days in (9, 20):
        store.add_event(Event(id=f"{days}", at=START - days * DAY, what="tried"))
    ticks(boxes, MINUTE)
    assert [event.id for event in events(boxes, "tried")] == ["9"]
    monkeypatch.setattr(Store, "drop_old_events", None)  # which fails when it is called
    ticks(boxes, 2 * MINUTE)


# --- the ping ------------------------------------------------------------------------------------


def test_the_ping_comes_with_each_tick_as_long_as_messages_get_through(make_boxes: Any, receiver: Receiver) -> None:
    boxes = make_boxes(ping_url=f"{receiver.address}/ping")

    def pings() -> int:
        return sum(each.path == "/ping" for each in receiver.requests)

    report(boxes)
    ticks(boxes, MINUTE, 2 * MINUTE)
    assert pings() == 2
    report(boxes, behind=2 * DAY)
    for minute in (3, 4, 6, 7, 8):
        receiver.statuses[:] = [500]
        ticks(boxes, minute * MINUTE)
    assert pings() == 4  # at the third refusal nobody hears the witness any more
    assert "1 message does not get through: `zfs_sync.py notify` says why" in warnings(boxes)
    receiver.statuses.clear()
    ticks(boxes, max(11 * MINUTE, datetime.now(UTC) - START))  # or, late in a long run, that look is overdue
    assert pings() == 5
    assert warnings(boxes) == []


def test_a_ping_that_fails_is_logged_without_its_address(
    make_boxes: Any, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    boxes = make_boxes(ping_url=f"{receiver.address}/uuid-of-the-check")
    receiver.statuses += [404]
    ticks(boxes, MINUTE)
    assert "ping_url: it answered 404" in caplog.text
    assert "uuid-of-the-check" not in caplog.text
    last = last_tick(boxes.client.witness)
    assert last is not None
    assert last.looked_at == START + MINUTE


def warnings(boxes: Boxes) -> list[str]:
    """What /health/ready says beside being ready."""
    found: list[str] = boxes.client.app.get("/health/ready", status=200).json["warnings"]
    return found


def test_a_look_that_is_overdue_is_said_by_whoever_asks_whether_the_witness_is_ready(boxes: Boxes) -> None:
    assert "nothing has looked for alerts yet" in warnings(boxes)[0]
    witness, now = boxes.client.witness, datetime.now(UTC)
    assert tick(witness, now - 2 * MINUTE)
    assert warnings(boxes) == []
    with witness.store.transaction(ALERTS) as tx:
        tx[ALERTS].ticks.put(Tick(id="last", started_at=now - 10 * DAY, by="one that is gone"))
    assert warnings(boxes) == ["nothing has looked for alerts for 10 days: the log says why"]
