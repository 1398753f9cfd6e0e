"""How much there may be of everything: one more is refused, over the API and in the file, and the field is named."""

import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config import ConfigError, load
from store import REGISTRY
from tests.contract import BASE
from tests.witness import NOBODY, Client, client_of

IN_A_GROUP = {  # place: the most that may stand there
    "datasets.include": 1000,
    "datasets.exclude": 1000,
    "snapshots.include": 1000,
    "snapshots.exclude": 1000,
    "paused.datasets": 1000,
    "paused.systems": 1000,
    "properties": 100,
}
ENTRIES = {"properties": lambda n: {f"a:p{i}": "x" for i in range(n)}, "paused.systems": lambda n: ["nas"] * n}


def with_entries(where: str, count: int) -> dict[str, Any]:
    """A group's options with so many entries at a place."""
    outer, _, inner = where.partition(".")
    entries = ENTRIES.get(where, lambda n: [f"a{i}" for i in range(n)])(count)
    return {outer: {inner: entries} if inner else entries}


def nested(levels: int) -> dict[str, Any]:
    return {} if levels == 1 else {"a": nested(levels - 1)}


@pytest.mark.parametrize("where", IN_A_GROUP)
def test_of_a_group_over_the_api(client: Client, where: str) -> None:
    most = IN_A_GROUP[where]
    nas = client.register("nas")
    body: Any = {"name": "g", "system_ids": [nas.id], **with_entries(where, most)}
    if where == "paused.systems":
        body["paused"]["systems"] = [nas.id] * most
    group = client.call("POST", "/sync-groups", body, status=201).json
    for method, path in (("POST", "/sync-groups"), ("PUT", f"/sync-groups/{group['id']}")):
        more = with_entries(where, most + 1) | ({"name": "h"} if method == "POST" else {})
        (error,) = client.call(method, path, more, status=422).json["errors"]
        assert error == {"loc": where, "msg": f"expected at most {most}, got {most + 1}"}
    assert client.get("/sync-groups") == [group]


@pytest.mark.parametrize("where", IN_A_GROUP)
def test_of_a_group_in_the_file(tmp_path: Path, where: str) -> None:
    file = tmp_path / "zfs_sync.yaml"

    def write(count: int) -> None:
        group = {"name": "g", "systems": {"nas": None}, **with_entries(where, count)}
        file.write_text(f"port: 1\ngroups:\n  - {msgspec.json.encode(group).decode()}\n")

    write(IN_A_GROUP[where])
    assert load(file, {}).groups[0].name == "g"
    write(IN_A_GROUP[where] + 1)
    with pytest.raises(ConfigError) as refused:
        load(file, {})
    assert str(refused.value) == (
        f"{file}:3: groups[0].{where}: expected at most {IN_A_GROUP[where]}, got {IN_A_GROUP[where] + 1}"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "groups:\n  - {{name: g, systems: {{{}}}}}".format(", ".join(f"a{n}: " for n in range(1001))),
            "2: groups[0].systems: expected keys with values of length <= 1000",
        ),
        (
            "groups:\n" + "".join(f"  - {{name: g{n}, systems: {{a: }}}}\n" for n in range(1001)),
            "1: groups: expected a list of length <= 1000",
        ),
    ],
    ids=["systems", "groups"],
)
def test_of_what_only_the_file_has(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "zfs_sync.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(file, {})
    assert str(refused.value) == f"{file}:{said}"


def test_of_systems_over_the_api(client: Client) -> None:
    many = [str(uuid.UUID(int=n)) for n in range(1001)]
    for more in ({"system_ids": many}, {"members": {each: {} for each in many}}):
        (error,) = client.call("POST", "/sync-groups", {"name": "g", **more}, status=422).json["errors"]
        assert (error["loc"], error["msg"][-14:]) == (next(iter(more)), "length <= 1000")
    both = {"system_ids": many[:600], "members": {each: {} for each in many[600:]}}
    (error,) = client.call("POST", "/sync-groups", {"name": "g", **both}, status=422).json["errors"]
    assert error == {"loc": "members", "msg": "expected at most 1000 systems in a group, got 1001"}


def test_a_full_group_takes_no_further_system_and_a_full_store_no_further_group(client: Client) -> None:
    nas = client.register("nas")
    group = client.call("POST", "/sync-groups", {"name": "g"}).json
    with client.witness.store.transaction(REGISTRY) as tx:
        groups = tx[REGISTRY].groups
        stored = groups.get(group["id"])
        members = {str(uuid.UUID(int=n)): {"root": None} for n in range(1000)}
        groups.put(msgspec.structs.replace(stored, spec={**stored.spec, "members": members}))
        for number in range(999):
            id = str(uuid.UUID(int=number))
            groups.put(msgspec.structs.replace(stored, id=id, name=f"g{number}"))
    refused = client.call("POST", f"/sync-groups/{group['id']}/systems", {"system_id": nas.id}, status=422)
    assert refused.json["errors"][0]["loc"] == "system_id"
    assert "1000 sync groups" in client.call("POST", "/sync-groups", {"name": "one more"}, status=409).json["detail"]


def test_what_was_stored_before_there_were_limits_is_shown_and_can_be_mended(client: Client) -> None:
    id = client.call("POST", "/sync-groups", {"name": "g"}).json["id"]
    with client.witness.store.transaction(REGISTRY) as tx:
        stored = tx[REGISTRY].groups.get(id)
        spec = {**stored.spec, "datasets": {"include": ["a"] * 1500, "exclude": []}}
        tx[REGISTRY].groups.put(msgspec.structs.replace(stored, spec=spec))
    assert len(client.get(f"/sync-groups/{id}")["datasets"]["include"]) == 1500
    assert (
        client.call("PUT", f"/sync-groups/{id}", {"grace_s": 1}, status=422).json["errors"][0]["loc"][:8] == "datasets"
    )
    assert client.call("PUT", f"/sync-groups/{id}", {"datasets": {"include": ["a"]}}, status=200).json["name"] == "g"


TAKE_METADATA = {
    "register": ("POST", "/systems/register", {"hostname": "new"}, "metadata"),
    "change": ("PUT", "/systems/{id}", {}, "metadata"),
    "heartbeat": ("POST", "/systems/{id}/heartbeat", {}, "metadata"),
    "group": ("POST", "/sync-groups", {"name": "g"}, "metadata"),
    "snapshot": ("POST", "/snapshots", {"dataset": "tank", "name": "x", "guid": "7", "system_id": "{id}"}, "metadata"),
}


@pytest.mark.parametrize("what", TAKE_METADATA)
def test_of_metadata(client: Client, what: str) -> None:
    nas = client.register("nas")
    method, path, body, loc = TAKE_METADATA[what]
    path, body = path.format(id=nas.id), {**body, **({"system_id": nas.id} if "system_id" in body else {})}
    (error,) = client.call(method, path, {**body, "metadata": nested(21)}, status=422).json["errors"]
    assert error == {"loc": loc, "msg": "expected at most 20 levels"}
    in_lists: Any = []
    for _ in range(20):
        in_lists = [in_lists]
    client.call(method, path, {**body, "metadata": {"a": in_lists}}, status=422)
    (error,) = client.call(method, path, {**body, "metadata": {"a": "x" * 65536}}, status=422).json["errors"]
    assert error == {"loc": loc, "msg": "expected at most 65536 bytes as JSON"}
    client.call(method, path, {**body, "metadata": nested(20) | {"b": "x" * 65000}})


def test_of_metadata_in_a_batch_the_element_is_named(client: Client) -> None:
    nas = client.register("nas")
    one = {"dataset": "tank", "name": "x", "guid": "7", "system_id": nas.id}
    refused = client.call("POST", "/snapshots/batch", [one, {**one, "metadata": nested(21)}], status=422)
    assert refused.json["errors"][0]["loc"] == "[1].metadata"


@pytest.mark.parametrize("levels", [900, 945, 960, 970, 980, 990, 2000])
def test_what_is_nested_as_deep_as_the_reader_can_is_refused(client: Client, levels: int) -> None:
    raw = b'{"hostname": "deep", "metadata": ' + b'{"a":' * levels + b"{}" + b"}" * (levels + 1)
    headers = {"X-API-Key": str(client.key)}
    answer = client.app.post(
        f"{BASE}/systems/register", raw, headers=headers, content_type="application/json", expect_errors=True
    )
    assert answer.status_code in (400, 422)
    assert client.get("/systems") == []


def test_of_the_fields_of_a_form(make_witness: Any) -> None:
    app = client_of(make_witness()).app
    assert (
        app.post("/dashboard/sign-in", "&".join(f"a{n}=1" for n in range(51)), status=400).content_type == "text/html"
    )
    assert NOBODY not in app.post("/dashboard/sign-in", "key=" + "a" * 70000, status=413).text
