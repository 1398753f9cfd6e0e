"""Single snapshots: added, updated, listed, deleted; history and statistics."""

import time
from typing import Any
from urllib.parse import quote

import pytest

from tests.store_samples import everything
from tests.test_inventories import listing, shown
from tests.witness import LISTINGS, NOBODY, Agent, Client

DAY = 86400
X = {"dataset": "tank/data", "name": "x", "guid": "5", "timestamp": "2026-11-01T00:00:00Z"}


@pytest.fixture
def nas(client: Client) -> Agent:
    return client.register("nas")


def post(nas: Client, status: int = 201, **fields: Any) -> Any:
    return nas.call("POST", "/snapshots", {**X, **fields}, status=status)


# --- added and updated ---------------------------------------------------------------------------


def test_a_snapshot_is_added_and_shown(nas: Agent) -> None:
    made = post(nas, createtxg=7, size=1, referenced=2, written=3, metadata={"why": "upgrade"})
    assert made.json == {
        "id": made.json["id"],
        "name": "x",
        "pool": "tank",
        "dataset": "tank/data",
        "timestamp": "2026-11-01T00:00:00Z",
        "guid": "5",
        "createtxg": "7",
        "size": 1,
        "referenced": 2,
        "written": 3,
        "system_id": nas.id,
        "identity": "guid",
        "created_at": made.json["created_at"],
        "updated_at": made.json["created_at"],
        "metadata": {"why": "upgrade"},
    }
    assert nas.get(f"/snapshots/{made.json['id']}") == made.json
    assert nas.get("/snapshots") == [made.json]


def test_a_snapshot_is_updated_by_its_guid(nas: Agent) -> None:
    made = post(nas, size=1, metadata={"why": "upgrade"}).json
    later = post(nas, size=9).json
    assert later == {**made, "size": 9, "updated_at": later["updated_at"]}
    assert post(nas).json == later  # what is left out stays
    renamed = post(nas, name="y").json
    assert (renamed["guid"], renamed["size"], renamed["metadata"]) == ("5", 9, {"why": "upgrade"})
    assert [each["name"] for each in nas.get("/snapshots")] == ["y"]
    assert post(nas, name="y", metadata={}).json["metadata"] == {}


def test_the_same_snapshot_again_changes_no_file(client: Client, nas: Agent) -> None:
    nas.report((LISTINGS / "nas.tsv").read_bytes())
    nas.grow_old()
    known = client.get("/snapshots?limit=1&dataset=tank")[0]
    before = everything(client.witness.store)
    again = {name: known[name] for name in ("dataset", "name", "guid", "timestamp", "size", "createtxg")}
    assert nas.call("POST", "/snapshots", again).json == known
    assert everything(client.witness.store) == before


def test_a_snapshot_that_was_made_anew_replaces_its_namesake(nas: Agent) -> None:
    old = post(nas, metadata={"of": "the old one"}).json
    new = post(nas, guid="6", timestamp="2026-11-02T00:00:00Z").json
    assert new["id"] != old["id"]
    assert nas.get("/snapshots") == [new]
    assert new["metadata"] == {}
    gone = [each["guid"] for each in nas.get("/snapshots/history") if each["event"] == "gone"]
    assert gone == ["5"]
    assert post(nas, name="z").json["metadata"] == {}


def test_a_batch_can_make_a_snapshot_anew_and_bring_back_the_old_one_renamed(nas: Agent) -> None:
    post(nas)
    nas.call("POST", "/snapshots/batch", [{**X, "guid": "6"}, {**X, "name": "y"}], status=201)
    assert {each["name"]: each["guid"] for each in nas.get("/snapshots")} == {"x": "6", "y": "5"}


@pytest.mark.parametrize("reverse", [False, True])
def test_a_batch_of_rotated_names_loses_none_that_it_brings(nas: Agent, reverse: bool) -> None:
    def daily(number: int, guid: int, **fields: Any) -> dict[str, Any]:
        return {**X, "name": f"daily.{number}", "guid": str(guid), **fields}

    first = [daily(number, guid, metadata={"was": number}) for number, guid in enumerate([4, 3, 2, 1])]
    nas.call("POST", "/snapshots/batch", first, status=201)
    rotated = [daily(number, guid) for number, guid in enumerate([5, 4, 3, 2])]
    nas.call("POST", "/snapshots/batch", rotated[::-1] if reverse else rotated, status=201)
    kept = {each["name"]: (each["guid"], each["metadata"].get("was")) for each in nas.get("/snapshots")}
    assert kept == {"daily.0": ("5", None), "daily.1": ("4", 0), "daily.2": ("3", 1), "daily.3": ("2", 2)}
    assert [each["guid"] for each in nas.get("/snapshots/history") if each["event"] == "gone"] == ["1"]


def test_two_that_are_one_snapshot_are_refused_and_not_stored(nas: Agent) -> None:
    nas.call("POST", "/snapshots/batch", [{**X, "guid": "6"}], status=201)
    before = nas.get("/snapshots")
    both = [{**X, "guid": None}, {**X, "guid": "6", "name": "renamed"}]
    errors = nas.call("POST", "/snapshots/batch", both, status=422).json["errors"]
    assert [error["loc"] for error in errors] == ["snapshots[0].name"]
    assert nas.get("/snapshots") == before


@pytest.mark.parametrize(
    ("pool", "dataset", "full"),
    [
        (None, "tank/data", "tank/data"),
        ("tank", "data", "tank/data"),
        ("tank", "tank/data", "tank/data"),
        ("tank", "tank", "tank"),
        ("tank", "tanker/data", "tank/tanker/data"),
    ],
)
def test_a_path_relative_to_its_pool_is_completed(nas: Agent, pool: str | None, dataset: str, full: str) -> None:
    assert post(nas, pool=pool, dataset=dataset).json["dataset"] == full
    query = f"dataset={dataset}" + (f"&pool={pool}" if pool else "")
    assert len(nas.get(f"/snapshots?{query}")) == 1


def test_without_a_guid_name_and_creation_time_identify_it(nas: Agent) -> None:
    made = post(nas, guid=None).json
    assert (made["identity"], made["guid"]) == ("name", None)
    assert post(nas, guid=None, size=4).json["id"] == made["id"]
    other = post(nas, guid=None, timestamp="2026-11-02T00:00:00Z").json
    assert [each["timestamp"] for each in nas.get("/snapshots")] == [other["timestamp"]]
    known = post(nas, guid=8, timestamp="2026-11-02T00:00:00Z").json
    assert (known["identity"], known["guid"]) == ("guid", "8")
    assert post(nas, guid=None, timestamp="2026-11-02T00:00:00Z").json == known


def test_what_is_known_by_name_only_is_marked_wherever_it_shows(client: Client, nas: Agent) -> None:
    post(nas, guid=None)
    row = nas.get(f"/systems/{nas.id}/inventory")["datasets"][0]["snapshots"][0]
    assert (row["guid"], row["identity"]) == (None, "name")
    assert client.get("/snapshots/history")[0]["identity"] == "name"
    group = client.call("POST", "/sync-groups", {"name": "g", "system_ids": [nas.id]}).json["id"]
    cell = client.get(f"/sync/{group}/status")["datasets"][0]["systems"][nas.id]
    assert cell["newest"]["identity"] == "name"
    nas.report(listing("1"))
    assert "identity" not in nas.get(f"/systems/{nas.id}/inventory")["datasets"][0]["snapshots"][0]


def test_the_digest_is_forgotten_when_single_snapshots_come_or_go(nas: Agent) -> None:
    digest = nas.report(listing("1 2"))["digest"]
    beat = {"inventory_digest": digest}

    def answer() -> str:
        said: str = nas.call("POST", f"/systems/{nas.id}/heartbeat", beat).json["inventory"]
        return said

    assert answer() == "current"
    post(nas)
    assert answer() == "stale"
    nas.report(listing("1 2"))
    assert answer() == "current"
    nas.call("DELETE", f"/snapshots/{nas.get('/snapshots')[0]['id']}", status=204)
    assert answer() == "stale"
    assert nas.report(listing("1 2"))["added"] == 1


def test_single_snapshots_are_an_inventory_of_those_who_report_no_other(client: Client, nas: Agent) -> None:
    post(nas)
    health = client.get(f"/systems/{nas.id}/health")
    assert (health["snapshot_count"], health["inventory_age_s"]) == (1, 0)
    nas.grow_silent(hours=30)
    assert client.get(f"/systems/{nas.id}/health")["inventory_age_s"] >= 30 * 3600
    post(nas)
    assert client.get(f"/systems/{nas.id}/health")["inventory_age_s"] < 60
    nas.report(listing("1"))
    nas.grow_silent(hours=30)
    post(nas)
    assert client.get(f"/systems/{nas.id}/health")["inventory_age_s"] >= 30 * 3600  # single ones confirm nothing else


def test_a_dataset_known_by_its_snapshots_only_has_no_line_of_its_own(nas: Agent) -> None:
    post(nas)
    text = "tank/data@x\tsnapshot\t5\t-\t1793491200\t-\t-\t-\t-\t-\t-\n"
    assert shown(nas, nas.id).text == text


# --- what is refused -----------------------------------------------------------------------------

REFUSED: list[tuple[str, Any]] = [
    ("name", "$(reboot)"),
    ("name", "a;b"),
    ("name", "a@b"),
    ("name", "a#b"),
    ("name", "a/b"),
    ("name", "a+02:00"),
    ("name", ""),
    ("name", "x" * 250),
    ("name", None),
    ("dataset", "tank/$(reboot)"),
    ("dataset", "tank@x"),
    ("dataset", "-tank"),
    ("dataset", "tank//data"),
    ("dataset", "tank/"),
    ("dataset", "/tank"),
    ("dataset", "tank/../etc"),
    ("pool", "tank/data"),
    ("pool", ""),
    ("timestamp", "2026-11-22T14:00:00"),
    ("timestamp", "2026-11-22"),
    ("timestamp", "yesterday"),
    ("timestamp", "1969-12-31T23:59:59Z"),
    ("timestamp", "0001-01-01T00:00:00+14:00"),
    ("timestamp", "9999-12-31T23:59:59-14:00"),
    ("timestamp", 1790000000),
    ("guid", 2**64),
    ("guid", str(2**64)),
    ("guid", 0),
    ("guid", -1),
    ("guid", "-1"),
    ("guid", "1e5"),
    ("guid", ""),
    ("guid", 1.5),
    ("guid", 10**400),
    ("createtxg", 2**64),
    ("size", 2**63),
    ("size", -1),
    ("size", "9" * 5000),
    ("used", 2**63),
    ("referenced", 2**63),
    ("written", -1),
    ("metadata", 3),
    ("system_id", "nas"),
    ("system_id", NOBODY.upper()),
    ("colour", "blue"),
]


@pytest.mark.parametrize(("field", "value"), REFUSED, ids=lambda value: repr(value)[:30])
def test_a_batch_is_stored_whole_or_not_at_all(client: Client, nas: Agent, field: str, value: Any) -> None:
    fine = [{**X, "name": f"s{number}", "guid": number} for number in range(1, 6)]
    fine[3] = {**fine[3], field: value}
    before = everything(client.witness.store)
    refused = nas.call("POST", "/snapshots/batch", fine, status=422)
    locs = {error["loc"].removeprefix("snapshots") for error in refused.json["errors"]}
    assert locs == {f"[3].{field}"}, refused.text
    assert everything(client.witness.store) == before
    assert nas.call("POST", "/snapshots", fine[3], status=422).json["errors"][0]["loc"] == field


def test_each_bad_element_of_a_batch_is_named(nas: Agent) -> None:
    batch = [{**X, "guid": 0}, {**X, "name": "y", "guid": "6"}, {**X, "name": "z", "guid": "7", "size": 2**63}]
    errors = nas.call("POST", "/snapshots/batch", batch, status=422).json["errors"]
    assert [error["loc"] for error in errors] == ["snapshots[0].guid", "snapshots[2].size"]


@pytest.mark.parametrize(("field", "other"), [("name", {"guid": "6"}), ("guid", {"name": "y"})])
def test_a_batch_that_contradicts_itself_is_422(nas: Agent, field: str, other: Any) -> None:
    refused = nas.call("POST", "/snapshots/batch", [X, {**X, **other}], status=422)
    assert refused.json["errors"][0]["loc"] == f"snapshots[1].{field}"


def test_neither_guid_nor_time_identify_nothing(nas: Agent) -> None:
    assert post(nas, 422, guid=None, timestamp=None).json["errors"][0]["loc"] == "timestamp"
    assert post(nas, 422, size=1, used=2).json["errors"][0]["loc"] == "used"


@pytest.mark.parametrize("guid", [1, "1", 2**64 - 1, str(2**64 - 1)])
def test_a_guid_may_be_an_integer_or_a_string(nas: Agent, guid: Any) -> None:
    assert post(nas, guid=guid, size=2**63 - 1).json["guid"] == str(guid)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("2026-11-22T14:00:00Z", "2026-11-22T14:00:00Z"),
        ("2026-11-22T14:00:00+02:00", "2026-11-22T12:00:00Z"),
        ("2026-11-22T14:00:00.999-00:30", "2026-11-22T14:30:00Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
    ],
)
def test_times_are_kept_in_utc(nas: Agent, sent: str, stored: str) -> None:
    assert post(nas, timestamp=sent).json["timestamp"] == stored


def test_an_agent_reports_for_itself_and_an_admin_says_for_whom(client: Client, nas: Agent) -> None:
    other = client.register("other")
    refusals = [post(other, 403, system_id=system_id).body for system_id in (nas.id, NOBODY)]
    assert refusals[0] == refusals[1]
    assert post(client, 422).json["errors"][0]["loc"] == "system_id"
    assert post(client, 422, system_id=NOBODY).json["errors"][0]["loc"] == "system_id"
    both = [{**X, "system_id": nas.id}, {**X, "system_id": other.id}]
    assert len(client.call("POST", "/snapshots/batch", both, status=201).json) == 2
    assert [each["system_id"] for each in nas.get("/snapshots")] == [nas.id]
    nas.call("POST", "/snapshots/batch", both, status=403)
    assert nas.call("POST", "/snapshots/batch", [], status=201).json == []


# --- listed --------------------------------------------------------------------------------------


@pytest.fixture
def full(client: Client, nas: Agent) -> Client:
    nas.report_file("nas")
    client.register("backup").report_file("backup")
    return client


def test_snapshots_are_listed_newest_first_in_parts_that_fit_together(full: Client) -> None:
    whole = full.call("GET", "/snapshots?limit=1000")
    times = [each["timestamp"] for each in whole.json]
    assert times == sorted(times, reverse=True)
    assert len(full.get("/snapshots")) == min(100, len(times))
    parts, link = [], "/snapshots?limit=7"
    while link:
        part = full.call("GET", link)
        assert part.headers["X-Total-Count"] == str(len(times))
        parts += part.json
        following = [each for each in part.headers.get("Link", "").split(", ") if 'rel="next"' in each]
        link = following[0].partition(">")[0].removeprefix("</api/v1") if following else ""
    assert parts == whole.json


def test_every_filter_narrows(full: Client, nas: Agent) -> None:
    whole = full.get("/snapshots?limit=1000")
    one = next(each for each in whole if each["dataset"] == "tank/media/home videos")
    for field in ("system_id", "pool", "dataset", "name", "guid"):
        found = full.get(f"/snapshots?limit=1000&{field}={quote(one[field])}")
        assert found == [each for each in whole if each[field] == one[field]]
        assert 0 < len(found) < len(whole)
    at = one["timestamp"]
    for field, fits in (("since", lambda each: each >= at), ("until", lambda each: each <= at)):
        found = full.get(f"/snapshots?limit=1000&{field}={quote(at)}")
        assert found == [each for each in whole if fits(each["timestamp"])]
    assert full.get("/snapshots?dataset=tank/no-such") == []
    assert full.get(f"/snapshots?limit=1000&system_id={nas.id}") == nas.get("/snapshots?limit=1000")


@pytest.mark.parametrize(
    "query", ["since=2026-11-22T14:00:00", "until=yesterday", "guid=x", "limit=0", "system_id=x", "since=", "name="]
)
@pytest.mark.parametrize(
    "path", ["/snapshots", "/snapshots/history", "/snapshots/statistics", "/events", "/sync/states"]
)
def test_a_filter_that_cannot_be_is_422(client: Client, path: str, query: str) -> None:
    client.call("GET", f"{path}?{query}", status=422)


def test_a_filter_by_a_system(client: Client, nas: Agent) -> None:
    other = client.register("other")
    for path in ("/snapshots", "/snapshots/history", "/snapshots/statistics"):
        client.call("GET", f"{path}?system_id={NOBODY}", status=404)
        for unknown in (nas.id, NOBODY):
            other.call("GET", f"{path}?system_id={unknown}", status=403)


# --- deleted -------------------------------------------------------------------------------------


def test_a_snapshot_is_deleted(client: Client, nas: Agent) -> None:
    made = post(nas, metadata={"a": 1}).json
    post(nas, name="y", guid="6")
    other = client.register("other")
    other.call("DELETE", f"/snapshots/{made['id']}", status=403)
    assert nas.call("DELETE", f"/snapshots/{made['id']}", status=204).body == b""
    assert [each["name"] for each in nas.get("/snapshots")] == ["y"]
    nas.call("GET", f"/snapshots/{made['id']}", status=404)
    nas.call("DELETE", f"/snapshots/{made['id']}", status=404)
    other.call("GET", f"/snapshots/{made['id']}", status=403)
    assert client.get(f"/systems/{nas.id}/health")["snapshot_count"] == 1
    assert client.get("/events?what=snapshot.forgotten")[0]["subject"] == "tank/data@x"
    assert [each["name"] for each in client.get("/snapshots/history") if each["event"] == "gone"] == ["x"]
    assert post(nas).json["metadata"] == {}


# --- history and statistics ----------------------------------------------------------------------


def test_history_is_per_system_and_dataset_and_in_parts(client: Client, nas: Agent) -> None:
    nas.report(listing("tank: 1 2") + listing("tank/a: 3"))
    client.register("other").report(listing("tank: 1"))
    assert len(client.get("/snapshots/history")) == 4
    assert len(nas.get("/snapshots/history")) == 3
    assert [each["name"] for each in nas.get("/snapshots/history?dataset=tank/a")] == ["s3"]
    part = nas.call("GET", "/snapshots/history?limit=2&offset=1")
    assert (len(part.json), part.headers["X-Total-Count"]) == (2, "3")
    whole = nas.get("/snapshots/history")
    assert part.json == whole[1:]
    assert set(whole[0]) == {"event", "at", "system_id", "pool", "dataset", "name", "guid", "identity", "timestamp"}
    client.call("GET", "/snapshots/history?days=0", status=422)


def test_statistics_count_what_is_there(client: Client, nas: Agent) -> None:
    now = int(time.time())
    ages_used_referenced = [(40 * DAY, 1, 100), (9 * DAY, 2, 150), (2 * DAY, 4, 400), (DAY, 8, 390)]
    rows = "".join(
        f"tank@s{number}\tsnapshot\t{number}\t{number}\t{now - age}\t{used}\t{referenced}\t-\toff\t-\t-\n"
        for number, (age, used, referenced) in enumerate(ages_used_referenced, 1)
    )
    nas.report(f"tank\tfilesystem\t9\t1\t{now}\t4096\t390\t0\toff\t-\t-\n{rows}")
    month = client.get("/snapshots/statistics")[0]
    assert (month["count"], month["total_size"], month["referenced"], month["used"]) == (4, 15, 390, 4096)
    assert month["oldest"] < month["newest"]
    assert (month["days"], month["snapshots_per_day"], month["growth"]) == (30, 0.1, 290)
    week = client.get(f"/snapshots/statistics?days=5&system_id={nas.id}&dataset=tank")[0]
    assert (week["snapshots_per_day"], week["growth"]) == (0.4, 240)
    assert client.get("/snapshots/statistics?dataset=other") == []
    assert client.call("GET", "/snapshots/statistics").headers["X-Total-Count"] == "1"
