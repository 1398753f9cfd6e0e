"""The witness behind a real nginx, and a real Caddy, as deploy/proxy sets them up."""

import gzip
import http.client
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import pytest

from tests.front import OFFERED, Nginx, wait_for
from tests.lab import Lab, free_port
from tests.programs import need
from tests.witness import ADMIN, LISTINGS, TSV


class Behind:
    """A witness, and calls to it by way of nginx."""

    def __init__(self, folder: Path, settings: str = "", *, below: bool = False) -> None:
        (folder / "nginx").mkdir(parents=True)
        self.lab = Lab(folder / "lab", f"trusted_proxies: [127.0.0.1]\nmax_inventory_bytes: 2000000\n{settings}")
        self.nginx = Nginx(folder / "nginx", [self.lab.port], below=below)

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, Any]:
        """Status, headers and JSON of an answer over TLS."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.nginx.port, context=self.nginx.context(), timeout=60)
        sent = {"X-API-Key": ADMIN, **{name.replace("_", "-"): value for name, value in headers.items()}}
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, answer.headers, json.loads(text) if text[:1] in (b"{", b"[") else text


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """One witness behind nginx for all tests here."""
    found = Behind(tmp_path_factory.mktemp("behind"))
    yield found
    found.nginx.stop()
    found.lab.stop()


def test_a_report_comes_through_packed_and_unpacked(behind: Behind) -> None:
    body = json.dumps({"hostname": "nas"}).encode()
    status, headers, system = behind.call("POST", "/api/v1/systems/register", body, Content_Type="application/json")
    assert status == 201
    assert headers["Location"] == f"/api/v1/systems/{system['id']}"
    listing = (LISTINGS / "nas.tsv").read_bytes()
    path = f"/api/v1/systems/{system['id']}/inventory"
    status, _, packed = behind.call("PUT", path, gzip.compress(listing), Content_Type=TSV, Content_Encoding="gzip")
    assert (status, packed["added"] > 0) == (200, True)
    status, _, plain = behind.call("PUT", path, listing, Content_Type=TSV)
    assert (status, plain["added"], plain["digest"]) == (200, 0, packed["digest"])
    status, headers, _ = behind.call("GET", path, Accept=TSV)
    assert status == 200
    status, _, _ = behind.call("GET", path, Accept=TSV, If_None_Match=headers["ETag"])
    assert status == 304


def test_the_address_in_the_audit_trail_is_the_callers_whatever_it_claims(behind: Behind) -> None:
    behind.call("POST", "/api/v1/systems/register", b"{}", Content_Type="application/json", X_API_Key="no.such-key")
    behind.call(
        "GET", "/api/v1/systems", X_API_Key="no.such-key", X_Forwarded_For="203.0.113.9", Forwarded="for=203.0.113.9"
    )
    _, _, events = behind.call("GET", "/api/v1/events?limit=5")
    assert {event["address"] for event in events} == {"127.0.0.1"}


def test_the_witness_itself_refuses_what_is_too_large_in_words(behind: Behind) -> None:
    body = json.dumps({"hostname": "large"}).encode()
    _, _, system = behind.call("POST", "/api/v1/systems/register", body, Content_Type="application/json")
    status, _, said = behind.call(
        "PUT", f"/api/v1/systems/{system['id']}/inventory", b"x" * 2_000_001, Content_Type=TSV
    )
    assert (status, said["status_code"]) == (413, 413)


def test_http_is_sent_to_https_by_308_which_keeps_the_method(behind: Behind) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", behind.nginx.plain_port, timeout=30)
    connection.request("POST", "/api/v1/systems/register?x=1", b"{}", {"Host": "sync.example.org"})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (
        308,
        "https://sync.example.org/api/v1/systems/register?x=1",
    )
    connection.close()


def test_a_witness_that_is_gone_is_a_502_of_the_proxy_and_comes_back(behind: Behind) -> None:
    behind.lab.stop()
    assert behind.call("GET", "/health")[0] == 502
    behind.lab.start()
    for _ in range(100):
        if behind.call("GET", "/health")[0] == 200:
            return
    raise AssertionError("nginx does not find the witness again")


@contextmanager
def ending() -> Iterator[tuple[int, list[bytes]]]:
    """The port of an instance that ends under each request, and the requests that it had read by then."""
    read: list[bytes] = []

    class End(BaseRequestHandler):
        def handle(self) -> None:
            if said := self.request.recv(65536):
                read.append(said)

    with ThreadingTCPServer(("127.0.0.1", 0), End) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1], read
        finally:
            server.shutdown()
            thread.join()


def test_a_request_under_which_its_instance_ends_is_answered_by_the_next_one(behind: Behind, tmp_path: Path) -> None:
    with ending() as (port, read):
        nginx, behind.nginx = behind.nginx, Nginx(tmp_path, [port, behind.lab.port])
        try:
            for number in range(4):  # turn by turn: two of them come to the one that ends
                body = json.dumps({"hostname": f"retried-{number}"}).encode()
                status, _, _ = behind.call("POST", "/api/v1/systems/register", body, Content_Type="application/json")
                assert status == 201
        finally:
            behind.nginx.stop()
            behind.nginx = nginx
    assert len(read) >= 2
    assert all(said.startswith(b"POST /api/v1/systems/register") for said in read)


@pytest.mark.parametrize("below", ["", "/zfs"])
def test_caddy_hands_on_what_a_report_needs_and_no_claims(behind: Behind, tmp_path: Path, below: str) -> None:
    lab = behind.lab
    with caddy(tmp_path, lab.port, below) as address:

        def call(method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, Any]:
            sent = {"X-API-Key": ADMIN, **{name.replace("_", "-"): value for name, value in headers.items()}}
            connection = http.client.HTTPConnection(address, timeout=60)
            connection.request(method, below + path, body, sent)
            answer = connection.getresponse()
            text = answer.read()
            connection.close()
            return answer.status, answer.headers, json.loads(text)

        claims = {"X_Forwarded_For": "203.0.113.9", "X_Forwarded_Prefix": "/evil", "SCRIPT_NAME": "/evil"}
        body = json.dumps({"hostname": f"by-caddy{below.replace('/', '-')}"}).encode()
        status, headers, made = call(
            "POST", "/api/v1/systems/register", body, Content_Type="application/json", **claims
        )
        assert (status, headers["Location"]) == (201, f"{below}/api/v1/systems/{made['id']}")
        _, _, (registered, *_) = call("GET", "/api/v1/events?limit=1")
        assert (registered["what"], registered["address"]) == ("system.registered", "127.0.0.1")
        path = f"/api/v1/systems/{made['id']}/inventory"
        packed = gzip.compress((LISTINGS / "nas.tsv").read_bytes())
        assert call("PUT", path, packed, Content_Type=TSV, Content_Encoding="gzip")[0] == 200
        assert call("PUT", path, b"x" * 2_000_001, Content_Type=TSV)[0] == 413


@contextmanager
def caddy(folder: Path, backend: int, below: str) -> Iterator[str]:
    """Host and port of a Caddy with the configuration that we offer, at / or below a path, without TLS."""
    text = OFFERED.with_name("Caddyfile").read_text()
    if below:
        text, count = re.subn(r"(?m)^\t# (?=handle_path|\t|}$)", "\t", text)
        assert count == 5
    port = free_port()
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n}}\n{text}")
    named = {"WITNESS_HOST": f"http://127.0.0.1:{port}", "WITNESS_UPSTREAM": f"127.0.0.1:{backend}"}
    environ = {**os.environ, **named, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    argv = [need("caddy"), "run", "--config", folder / "Caddyfile", "--adapter", "caddyfile"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(argv, env=environ, stderr=log)
    try:
        wait_for(port)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
