"""Full reports: raw listings and JSON, what they change, what is refused, and the mass-delete guard."""

import gzip
import hashlib
from datetime import datetime
from typing import Any

import pytest

from handlers.reports import DEFAULT_COLUMNS
from store import inventory_of
from tests.store_samples import everything
from tests.witness import LISTINGS, NOBODY, TSV, Agent, Client, client_of

HOSTS = ("nas", "backup", "offsite")


@pytest.fixture
def nas(client: Client) -> Agent:
    return client.register("nas")


def listing(history: str, dataset: str = "tank") -> str:
    """A raw listing: "tank: 1 2 #3" has the snapshots s1 and s2 and the bookmark b3 with those guids."""
    dataset, _, marks = history.rpartition(": ") if ": " in history else (dataset, "", history)
    lines = [f"{dataset}\tfilesystem\t9{len(dataset)}\t1\t1700000000\t0\t0\t0\toff\t-\t-"]
    for mark in marks.split():
        kind, sign, number = ("bookmark", "#b", mark[1:]) if mark[0] == "#" else ("snapshot", "@s", mark)
        lines.append(
            f"{dataset}{sign}{number}\t{kind}\t{number}\t{number}\t{1700000000 + int(number)}\t0\t0\t0\toff\t-\t-"
        )
    return "".join(f"{line}\n" for line in lines)


def shown(agent: Client, agent_id: str) -> Any:
    return agent.call("GET", f"/systems/{agent_id}/inventory", headers={"Accept": TSV})


def names(nas: Agent) -> list[str]:
    return [line.split("\t")[0] for line in shown(nas, nas.id).text.splitlines()]


# --- what comes back -----------------------------------------------------------------------------


@pytest.mark.parametrize("host", HOSTS)
def test_a_real_listing_comes_back_byte_for_byte(nas: Agent, host: str) -> None:
    sent = (LISTINGS / f"{host}.tsv").read_bytes()
    counts = nas.report(sent)
    assert shown(nas, nas.id).body == sent
    assert counts["digest"] == hashlib.sha256((LISTINGS / f"{host}.fast.tsv").read_bytes()).hexdigest()
    assert counts["added"] == counts["snapshots"] == sent.count(b"\tsnapshot\t")
    assert counts["datasets"] == sent.count(b"\tfilesystem\t") + sent.count(b"\tvolume\t")


def test_a_listing_comes_back_in_the_order_of_the_last_report(nas: Agent) -> None:
    """Datasets that came and went since the first report do not disturb the order."""
    for text in (
        listing("tank: 1") + listing("tank/b: 2"),
        "".join(map(listing, ("tank: 1", "tank/a: 3", "tank/b: 2"))),
    ):
        nas.report(text)
        assert shown(nas, nas.id).text == text
    nas.report((LISTINGS / "nas.tsv").read_bytes())
    assert shown(nas, nas.id).body == (LISTINGS / "nas.tsv").read_bytes()


@pytest.mark.parametrize("host", HOSTS)
def test_the_json_form_says_the_same_and_can_be_sent_back(nas: Agent, client: Client, host: str) -> None:
    counts = nas.report_file(host)
    as_json = nas.get(f"/systems/{nas.id}/inventory")
    other = client.register("other")
    again = other.call("PUT", f"/systems/{other.id}/inventory", as_json).json
    assert again == counts
    assert other.get(f"/systems/{other.id}/inventory") == as_json
    assert shown(other, other.id).body == (LISTINGS / f"{host}.tsv").read_bytes()


def test_other_columns_in_another_order(nas: Agent) -> None:
    columns = "guid,name,mounted,readonly,available,userrefs,ivsetguid,mountpoint,createtxg"
    text = "7\ttank\tyes\toff\t1000\t-\t-\t/tank\t1\n8\ttank@a\t-\t-\t-\t2\t18446744073709551615\t-\t5\n"
    counts = nas.report(text, columns)
    back = shown(nas, nas.id)
    assert (back.text, back.headers["X-Columns"]) == (text, columns)
    assert counts["digest"] == hashlib.sha256(b"tank@a\t8\t5\n").hexdigest()
    assert nas.report("8\ttank@a\n", "guid,name")["digest"] is None  # without createtxg there is none


def test_a_bookmark_of_what_is_not_encrypted_has_no_ivsetguid(nas: Agent) -> None:
    columns = "name,type,guid,createtxg,ivsetguid"
    nas.report("tank\tfilesystem\t1\t1\t-\ntank#b\tbookmark\t2\t2\t0\n", columns)
    assert shown(nas, nas.id).text.splitlines()[1] == "tank#b\tbookmark\t2\t2\t-"


def test_guids_and_createtxgs_are_strings_in_json(nas: Agent) -> None:
    nas.report(listing("tank: 18446744073709551615 ".replace("18446744073709551615", "7")))
    nas.report("tank@a\t18446744073709551615\t18446744073709551615\n", "name,guid,createtxg")
    row = nas.get(f"/systems/{nas.id}/inventory")["datasets"][0]["snapshots"][0]
    assert (row["guid"], row["createtxg"]) == ("18446744073709551615", "18446744073709551615")


@pytest.mark.parametrize(
    "text",
    [
        "",
        listing("tank: 1 2").partition("\n")[2],  # snapshots without their dataset's row
        listing("tank/a/b: 1"),  # a child without its parents
        listing("tank: 1").rstrip("\n"),  # no newline at the end
        listing("tank/home videos: 1"),
    ],
)
def test_an_inventory_that_is_valid(nas: Agent, text: str) -> None:
    nas.report(text)
    assert shown(nas, nas.id).text == (f"{text}\n" if text and text[-1] != "\n" else text)


def test_an_empty_json_inventory_is_valid(nas: Agent) -> None:
    counts = nas.call("PUT", f"/systems/{nas.id}/inventory", {"datasets": []}).json
    assert (counts["datasets"], counts["snapshots"]) == (0, 0)
    assert counts["digest"] == hashlib.sha256(b"").hexdigest()


def test_a_receive_in_progress_is_no_dataset(nas: Agent) -> None:
    nas.report(listing("tank: 1") + listing("tank/%recv: 2"))
    assert names(nas) == ["tank", "tank@s1"]
    datasets = [{"name": "tank", "guid": "1"}, {"name": "tank/%recv", "guid": "2"}]
    nas.call("PUT", f"/systems/{nas.id}/inventory", {"datasets": datasets})
    assert names(nas) == ["tank"]


# --- what a report changes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "picture",
    [
        "1 2 3   => 1 2 3    added 0 removed 0 unchanged 3",
        "1 2 3   => 1 2 3 4  added 1 removed 0 unchanged 3",
        "1 2 3   => 2 3 4    added 1 removed 1 unchanged 2",
        "1 2 3   => 4 5 6    added 3 removed 3 unchanged 0",
        "1 2     => 2 1      added 0 removed 0 unchanged 2",
        "1 #2    => 1        added 0 removed 0 unchanged 1",
        "1       =>          added 0 removed 1 unchanged 0",
    ],
)
def test_a_report_counts_what_came_went_and_stayed(nas: Agent, picture: str) -> None:
    before, _, rest = picture.partition("=>")
    after, _, counts = rest.partition("added")
    nas.report(listing(before))
    said = nas.report(listing(after))
    assert f"{said['added']} removed {said['removed']} unchanged {said['unchanged']}" == counts.strip()
    assert shown(nas, nas.id).text == listing(after)


def test_the_same_report_again_changes_nothing_but_the_heartbeat(client: Client, nas: Agent) -> None:
    sent = (LISTINGS / "nas.tsv").read_bytes()
    first = nas.report(sent)
    before = everything(client.witness.store)
    zipped = gzip.compress(sent)
    again = [nas.report(sent), nas.report(sent), nas.report(zipped, headers={"Content-Encoding": "gzip"})]
    assert again == [{**first, "added": 0, "unchanged": first["snapshots"]}] * 3
    after = everything(client.witness.store)
    heartbeat = f"heartbeats/{nas.id}"
    assert before.pop(heartbeat) != after.pop(heartbeat)
    assert before == after


def test_snapshots_keep_when_they_were_first_seen(client: Client, nas: Agent) -> None:
    nas.report(listing("1 2"))
    nas.grow_old()
    before = {each["name"]: each for each in client.get("/snapshots")}
    nas.report(listing("2 3").replace("\t0\t0\t0\toff", "\t7\t0\t0\toff"))
    after = {each["name"]: each for each in client.get("/snapshots")}
    assert after["s2"]["id"] == before["s2"]["id"]
    assert after["s2"]["created_at"] == before["s2"]["created_at"]
    assert (before["s2"]["size"], after["s2"]["size"]) == (0, 7)
    assert after["s2"]["updated_at"] > before["s2"]["updated_at"]
    nas.grow_old()
    before = {each["name"]: each for each in client.get("/snapshots")}
    nas.report(listing("2 3 4").replace("\t0\t0\t0\toff", "\t7\t0\t0\toff"))
    assert {each["name"]: each for each in client.get("/snapshots")}["s2"] == before["s2"]


def test_a_report_recognizes_snapshots_that_came_by_name(client: Client, nas: Agent) -> None:
    single = {"dataset": "tank", "name": "s5", "timestamp": "2023-11-14T22:13:25Z", "metadata": {"keep": True}}
    assert nas.call("POST", "/snapshots", single).json["identity"] == "name"
    said = nas.report(listing("5 6"))
    assert (said["added"], said["removed"], said["unchanged"], said["guarded"]) == (1, 0, 1, [])
    known = client.get("/snapshots?name=s5")[0]
    assert (known["identity"], known["guid"], known["metadata"]) == ("guid", "5", {"keep": True})


# --- pools that come and go, and the mass-delete guard -------------------------------------------


def test_a_pool_that_vanishes_is_kept_as_not_imported(client: Client, nas: Agent) -> None:
    tank, usb = listing("tank: 1 2"), listing("usb/copy: 3 4")
    nas.report(tank + usb)
    said = nas.report(tank)
    assert (said["removed"], said["unchanged"], said["guarded"]) == (0, 2, [])
    assert said["not_imported"] == ["usb"]
    assert nas.report(tank)["not_imported"] == ["usb"]
    assert names(nas) == ["tank", "tank@s1", "tank@s2"]
    assert {each["pool"] for each in client.get("/snapshots")} == {"tank"}
    said = nas.report(tank + usb)
    assert (said["added"], said["unchanged"], said["not_imported"]) == (0, 4, [])
    assert shown(nas, nas.id).text == tank + usb


def test_a_pool_that_comes_back_emptied_raises_the_guard(nas: Agent) -> None:
    tank = listing("tank: 1")
    nas.report(tank + listing("usb: 3 4"))
    nas.report(tank)
    said = nas.report(tank + listing("usb: "))
    assert (said["removed"], said["guarded"]) == (2, ["usb"])


@pytest.mark.parametrize(
    "picture",
    [
        "1 2 3 4 5 6 7 8 9 10  => 1 2 3 4 5 6 7           three may always go",
        "1 2 3 4 5 6 7 8 9 10  => 1 2 3 4 5 6             GUARD four of ten are over 30 percent",
        "1 2 3 4 5             => 4 5                     three may always go",
        "1 2                   =>                         GUARD all are gone",
        "1                     => 2                       GUARD all are gone",
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 => 5 6 7 8 9 10 11 12 13 14  four of fourteen are under 30 percent",
        "1 2 3 4 5 6 7 8 9 10 11 12 13    => 5 6 7 8 9 10 11 12 13     GUARD four of thirteen are over",
    ],
)
def test_the_guard_is_raised_by_a_mass_deletion(nas: Agent, picture: str) -> None:
    before, _, rest = picture.partition("=>")
    after = " ".join(mark for mark in rest.split() if mark.isdecimal())
    nas.report(listing(before))
    assert nas.report(listing(after))["guarded"] == (["tank"] if "GUARD" in picture else [])


def test_a_dataset_that_is_gone_raises_the_guard_if_it_had_snapshots(nas: Agent) -> None:
    nas.report("".join(map(listing, ("tank: 1", "tank/a: 2", "tank/b: "))))
    assert nas.report(listing("tank: 1"))["guarded"] == ["tank/a"]


def test_a_dataset_that_was_renamed_has_lost_nothing(client: Client, nas: Agent) -> None:
    both = listing("tank: 1") + listing("tank/a: 2 3")
    nas.report(both)
    said = nas.report(both.replace("tank/a", "tank/a.aside"))
    assert (said["added"], said["removed"], said["guarded"]) == (2, 2, [])
    assert all(entry["event"] == "appeared" for entry in client.get("/snapshots/history"))


def test_the_share_that_may_go_is_a_setting(make_witness: Any) -> None:
    nas = client_of(make_witness(delete_guard_percent=90)).register("nas")
    nas.report(listing("1 2 3 4 5 6 7 8 9 10"))
    assert nas.report(listing("10"))["guarded"] == []
    nas.report(listing("1 2 3 4 5 6 7 8 9 10 11"))
    assert nas.report(listing("11"))["guarded"] == ["tank"]


def test_the_guard_stays_until_an_admin_accepts(client: Client, nas: Agent) -> None:
    both = listing("tank: 1 2") + listing("tank/a: 3")
    nas.report(both)
    nas.report(listing("tank: "))
    assert nas.report(both)["guarded"] == ["tank", "tank/a"]
    nas.call("POST", f"/systems/{nas.id}/inventory/accept", status=403)
    one = client.call("POST", f"/systems/{nas.id}/inventory/accept?dataset=tank").json
    assert one["accepted"] == ["tank"]
    assert nas.report(both)["guarded"] == ["tank/a"]
    client.call("POST", f"/systems/{nas.id}/inventory/accept?dataset=tank", status=404)
    assert client.call("POST", f"/systems/{nas.id}/inventory/accept").json["accepted"] == ["tank/a"]
    assert client.call("POST", f"/systems/{nas.id}/inventory/accept").json["accepted"] == []
    assert nas.report(both)["guarded"] == []
    nas.report(listing("tank: 1 2 3 4 5"))
    nas.report(listing("tank: "))
    flag = client.witness.store.read(inventory_of(nas.id)).guards.get("tank")
    nas.report(listing("tank: 6"))
    nas.report(listing("tank: "))  # the first loss is the one to be judged
    assert client.witness.store.read(inventory_of(nas.id)).guards.get("tank") == flag
    raised = [event["subject"] for event in client.get("/events?what=guard.raised")]
    assert sorted(set(raised)) == ["tank", "tank/a"]


# --- what is refused -----------------------------------------------------------------------------

GOOD = "tank/a@x\tsnapshot\t5\t6\t1700000000\t7\t8\t9\toff\t-\t-"
BAD_VALUES = [
    ("name", "tank/$(reboot)@x", "'$' is not allowed"),
    ("name", "tank/a;b@x", "';' is not allowed"),
    ("name", "tank/a\\t@x", "is not allowed"),
    ("name", "tank/ä@x", "is not allowed"),
    ("name", "-tank@x", "starts with a letter"),
    ("name", "tank//a@x", "a component is empty"),
    ("name", "tank/../a@x", "is no component"),
    ("name", "tank/a@x@y", "is not allowed"),
    ("name", "tank/a@", "a component is empty"),
    ("name", "mirror/a@x", "is no name for a pool"),
    ("name", "tank/" + "a" * 250 + "@x", "longer than 255 bytes"),
    ("name", "tank" + "/a" * 50 + "@x", "nested deeper"),
    ("name", "", "a component is empty"),
    ("type", "clone", "is no type of dataset"),
    ("type", "filesystem", "cannot be a filesystem"),
    ("type", "bookmark", "cannot be a bookmark"),
    ("guid", "-", "is missing"),
    ("guid", "0", "0 is no guid"),
    ("guid", "-5", "is not a decimal number"),
    ("guid", "0x10", "is not a decimal number"),
    ("guid", str(2**64), "is out of range"),
    ("createtxg", str(2**64), "is out of range"),
    ("creation", str(2**40), "is out of range"),
    ("creation", "2026-11-22T14:00:00Z", "is not a decimal number"),
    ("used", str(2**63), "is out of range"),
    ("used", "-1", "is not a decimal number"),
    ("used", "1.5M", "is not a decimal number"),
    ("used", "٣", "is not a decimal number"),
    ("referenced", str(2**63), "is out of range"),
    ("written", "9" * 30, "is not a decimal number"),
    ("encryption", "a\x01b", "cannot be printed"),
    ("origin", "tank/b@$(reboot)", "'$' is not allowed"),
]


@pytest.mark.on_files
@pytest.mark.parametrize(("column", "value", "problem"), BAD_VALUES, ids=lambda value: repr(value)[:30])
def test_a_bad_line_is_named_by_its_number_and_nothing_is_stored(
    client: Client, nas: Agent, column: str, value: str, problem: str
) -> None:
    nas.report(listing("tank: 1"))
    before = everything(client.witness.store)
    fields = GOOD.split("\t")
    fields[DEFAULT_COLUMNS.index(column)] = value
    text = listing("tank: 1 2") + "\t".join(fields) + "\n" + listing("tank/z: 3")
    refused = raw_report(nas, text, status=422)
    assert [error["loc"] for error in refused.json["errors"]] == ["line 4"]
    assert problem in refused.json["errors"][0]["msg"]
    assert refused.json["detail"].startswith("line 4: ")
    assert everything(client.witness.store) == before


@pytest.mark.on_files
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (GOOD + "\textra", "has 12 columns instead of 11"),
        ("tank/a@x", "has 1 columns instead of 11"),
        ("", "has 1 columns instead of 11"),
        (GOOD + "\r", "is not allowed|cannot be printed|no"),
        (listing("tank: 1").splitlines()[0], "'tank' is listed twice"),
        ("cannot open 'tank': no such pool", "has 1 columns"),
    ],
)
def test_a_line_that_is_none_is_named_too(nas: Agent, line: str, problem: str) -> None:
    refused = raw_report(nas, listing("tank: 1") + line + "\n", status=422)
    assert refused.json["errors"][0]["loc"] == "line 3"
    assert any(part in refused.json["detail"] for part in problem.split("|"))


def test_no_more_than_twenty_bad_lines_are_named(nas: Agent) -> None:
    assert len(raw_report(nas, "bad\n" * 100_000, status=422).json["errors"]) == 20


def test_bytes_that_are_not_utf_8_are_named_by_their_line(nas: Agent) -> None:
    refused = raw_report(nas, listing("tank: 1").encode() + b"tank/\xff\n", status=422)
    assert refused.json["errors"] == [{"loc": "line 3", "msg": "is not UTF-8"}]


@pytest.mark.on_files
@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ("name,colour,guid", "'colour' is not read here"),
        ("name,createtxg", "'guid' is missing"),
        ("guid", "'name' is missing"),
        ("name,guid,guid", "named twice"),
        ("", "is not read here"),
    ],
)
def test_columns_that_cannot_be_are_422(nas: Agent, columns: str, problem: str) -> None:
    path = f"/systems/{nas.id}/inventory?columns={columns}"
    refused = nas.call("PUT", path, headers={"Content-Type": TSV}, status=422)
    assert refused.json["errors"][0]["loc"] == "columns"
    assert problem in refused.json["detail"]


def dataset(**fields: Any) -> dict[str, Any]:
    return {"name": "tank", "guid": "1", **fields}


SNAPSHOT = {"name": "x", "guid": 5}


@pytest.mark.on_files
@pytest.mark.parametrize(
    ("datasets", "loc"),
    [
        ([dataset(), dataset()], "datasets[1].name"),
        ([dataset(name="tank/$(reboot)")], "datasets[0].name"),
        ([dataset(name="tank@x")], "datasets[0].name"),
        ([dataset(guid=2**64)], "datasets[0].guid"),
        ([dataset(guid=-1)], "datasets[0].guid"),
        ([dataset(guid=True)], "datasets[0].guid"),
        ([dataset(used=2**63)], "datasets[0].used"),
        ([dataset(referenced="-1")], "datasets[0].referenced"),
        ([dataset(available=10**30)], "datasets[0].available"),
        ([dataset(type="snapshot")], "datasets[0].type"),
        ([dataset(colour="blue")], "datasets[0].colour"),
        ([dataset(receive_resume_token="1-a\tb")], "datasets[0].receive_resume_token"),
        ([dataset(origin="tank/b@`id`")], "datasets[0].origin"),
        ([dataset(mountpoint="/a\nb")], "datasets[0].mountpoint"),
        ([dataset(snapshots=[SNAPSHOT, SNAPSHOT])], "datasets[0].snapshots[1].name"),
        ([dataset(snapshots=[SNAPSHOT, {"name": "y"}])], "datasets[0].snapshots[1].guid"),
        ([dataset(snapshots=[{**SNAPSHOT, "name": "a@b"}])], "datasets[0].snapshots[0].name"),
        ([dataset(snapshots=[{**SNAPSHOT, "name": "a#b"}])], "datasets[0].snapshots[0].name"),
        ([dataset(snapshots=[{**SNAPSHOT, "written": 2**63}])], "datasets[0].snapshots[0].written"),
        ([dataset(snapshots=[{**SNAPSHOT, "creation": "2026-11-22T14:00:00"}])], "datasets[0].snapshots[0].creation"),
        ([dataset(snapshots=[{**SNAPSHOT, "creation": "yesterday"}])], "datasets[0].snapshots[0].creation"),
        ([dataset(snapshots=[{**SNAPSHOT, "creation": -1}])], "datasets[0].snapshots[0].creation"),
        ([dataset(bookmarks=[{**SNAPSHOT, "guid": "x"}])], "datasets[0].bookmarks[0].guid"),
    ],
)
def test_a_bad_json_element_is_named_by_its_place_and_nothing_is_stored(
    client: Client, nas: Agent, datasets: list[Any], loc: str
) -> None:
    nas.report(listing("tank: 1"))
    before = everything(client.witness.store)
    refused = nas.call("PUT", f"/systems/{nas.id}/inventory", {"datasets": datasets}, status=422)
    assert refused.json["errors"][0]["loc"] == loc, refused.text
    assert everything(client.witness.store) == before


@pytest.mark.parametrize("creation", [1790000000, "1790000000", "2026-09-21T14:13:20Z", "2026-09-21T16:13:20+02:00"])
def test_a_creation_time_in_json(nas: Agent, creation: Any) -> None:
    datasets = [dataset(snapshots=[{**SNAPSHOT, "creation": creation}])]
    nas.call("PUT", f"/systems/{nas.id}/inventory", {"datasets": datasets})
    assert nas.get("/snapshots")[0]["timestamp"] == "2026-09-21T14:13:20Z"


# --- packed, too large, too many -----------------------------------------------------------------


def raw_report(nas: Agent, body: str | bytes, status: int, **headers: str) -> Any:
    body = body.encode() if isinstance(body, str) else body
    headers = {"X-API-Key": str(nas.key), **headers}
    return nas.app.put(f"/api/v1/systems/{nas.id}/inventory", body, headers=headers, content_type=TSV, status=status)


def test_a_packed_report_is_read(nas: Agent) -> None:
    packed = gzip.compress((LISTINGS / "nas.tsv").read_bytes())
    for encoding in ("gzip", "GZIP", "x-gzip"):
        assert raw_report(nas, packed, 200, **{"Content-Encoding": encoding}).json["datasets"] > 0
    assert shown(nas, nas.id).body == (LISTINGS / "nas.tsv").read_bytes()


@pytest.mark.parametrize(
    "broken", [b"", b"not gzip", gzip.compress(b"x", mtime=0)[:-1], gzip.compress(b"", mtime=0) + b"more"]
)
def test_a_packed_report_that_is_broken_is_400(nas: Agent, broken: bytes) -> None:
    raw_report(nas, broken, 400, **{"Content-Encoding": "gzip"})


def test_a_gzip_bomb_is_413(make_witness: Any) -> None:
    nas = client_of(make_witness(max_inventory_bytes=1_000_000)).register("nas")
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 1_000_000
    assert "1000000" in raw_report(nas, bomb, 413, **{"Content-Encoding": "gzip"}).json["detail"]


def test_a_body_shorter_than_it_says_is_400(nas: Agent) -> None:
    body = listing("tank: 1")
    raw_report(nas, body, 400, **{"Content-Length": str(len(body) + 5)})


def test_an_inventory_is_of_a_system_that_is_there(client: Client) -> None:
    client.call("PUT", f"/systems/{NOBODY}/inventory", {"datasets": []}, status=404)
    client.call("GET", f"/systems/{NOBODY}/inventory", status=404)


def test_what_is_gone_is_in_the_history(client: Client, nas: Agent) -> None:
    nas.report(listing("1 2 3"))
    nas.report(listing("3 4"))
    nas.report(listing("tank/other: 9") + listing("tank: 3"))
    history = client.get("/snapshots/history")
    gone = sorted(each["name"] for each in history if each["event"] == "gone")
    appeared = sorted(each["name"] for each in history if each["event"] == "appeared")
    assert (gone, appeared) == (["s1", "s2", "s4"], ["s1", "s2", "s3", "s4", "s9"])
    moments = [datetime.fromisoformat(each["at"]) for each in history]
    assert moments == sorted(moments, reverse=True)
