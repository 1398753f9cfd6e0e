"""TLS: the certificate that `tls` makes, and what the witness speaks with it, to curl and to an agent."""

import json
import os
import re
import shlex
import socket
import ssl
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from cli.serve import tls_context
from tests.agent_world import make_host
from tests.checkout import ROOT
from tests.programs import need
from tests.test_serve import KEY, PROGRAM, Server, serving

WRONG_PIN = "sha256//" + "A" * 43 + "="


def made(folder: Path, *names: str, status: int = 0) -> str:
    """What `tls` prints on stdout; its complaint if it fails."""
    done = subprocess.run([*PROGRAM, "tls", *names], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


def field(said: str, name: str) -> str:
    found = re.search(rf"^{name} ?[=:] ?(.*)$", said, re.MULTILINE)
    assert found, said
    return found[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made_folder = tmp_path_factory.mktemp("tls")
    (made_folder / "zfs_sync.yaml").write_text("port: 0\nworkers: 1\n")
    return made_folder


@pytest.fixture(scope="module")
def said(folder: Path) -> str:
    return made(folder, "witness.lan", "192.0.2.7")


@pytest.fixture(scope="module")
def server(folder: Path, said: str) -> Iterator[Server]:
    (folder / "zfs_sync.yaml").write_text(f"port: 0\nworkers: 1\ntls_cert: {field(said, 'tls_cert')}\n")
    environ = {"ZFS_SYNC_TLS_KEY": field(said, "tls_key")}
    with serving(folder, workers=1, **environ) as started:
        yield started


def curl(server: Server, *options: str) -> subprocess.CompletedProcess[str]:
    argv = [need("curl"), "-q", "-sS", "--max-time", "20", *options, f"{server.address}/health/live"]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_the_key_is_its_owners_alone_and_the_certificate_names_the_witness(folder: Path, said: str) -> None:
    assert Path(field(said, "tls_key")).stat().st_mode & 0o777 == 0o600
    show = ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", field(said, "tls_cert")]
    names = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    for name in ("DNS:witness.lan", "IP Address:192.0.2.7", "DNS:localhost", "IP Address:127.0.0.1"):
        assert name in names


def test_a_renewed_certificate_keeps_the_pin(tmp_path: Path) -> None:
    first = made(tmp_path, "a.lan")
    before = Path(field(first, "tls_cert")).read_bytes()
    assert field(made(tmp_path, "b.lan"), "pinned_key") == field(first, "pinned_key")
    assert Path(field(first, "tls_cert")).read_bytes() != before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_key_that_root_makes_is_the_services(tmp_path: Path) -> None:
    (tmp_path / "zfs_sync.yaml").write_text("")
    (tmp_path / "data").mkdir()
    os.chown(tmp_path / "data", 12345, -1)
    key = Path(field(made(tmp_path), "tls_key")).stat()
    assert (key.st_uid, key.st_mode & 0o777) == (12345, 0o600)


def test_a_start_with_files_that_tls_cannot_use_says_which(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    said = made(tmp_path, "a.lan"), made(tmp_path / "a", "a.lan")
    cert, other_key = (Path(field(said[0], "tls_cert")), Path(field(said[1], "tls_key")))

    def refusal() -> str:
        argv = [*PROGRAM, "serve"]
        environ = {**os.environ, "ZFS_SYNC_TLS_CERT": str(cert), "ZFS_SYNC_TLS_KEY": str(other_key)}
        done = subprocess.run(argv, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1
        return done.stderr

    assert "do not go together" in refusal()
    other_key.unlink()
    assert f"{other_key}: there is no such file" in refusal()


def test_what_cannot_be_used_is_said_in_a_line(tmp_path: Path) -> None:
    assert "expected names and addresses" in made(tmp_path, "ä.lan", status=1)
    (tmp_path / "tls-key.pem").write_text("no key")
    assert "this key cannot be read" in made(tmp_path, status=1)


def test_curl_trusts_it_as_it_was_printed(server: Server, said: str) -> None:
    options = shlex.split(said.splitlines()[-1])
    assert options[2] == "--pinnedpubkey"
    done = curl(server, *options)
    assert done.stdout.startswith('{"status"'), done.stderr
    assert curl(server, *options[:3], WRONG_PIN).returncode == 90  # CURLE_SSL_PINNEDPUBKEYNOTMATCH
    assert curl(server).returncode == 60  # it vouches for itself only


@pytest.mark.parametrize(
    ("options", "spoken"),
    [
        (("--tlsv1.3",), True),
        (("--tlsv1.2", "--tls-max", "1.2"), True),
        (("--tls-max", "1.1", "--ciphers", "ALL:@SECLEVEL=0"), False),
        (("--tls-max", "1.2", "--ciphers", "AES128-GCM-SHA256"), False),  # no forward secrecy
        (("--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES128-SHA256"), False),  # CBC
    ],
)
def test_versions_and_ciphers(server: Server, options: tuple[str, ...], spoken: bool) -> None:
    done = curl(server, "--insecure", *options)
    assert (done.returncode == 0) is spoken, done.stderr


def test_nothing_older_is_spoken_whatever_openssl_would_allow() -> None:
    def lax() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with warnings.catch_warnings(action="ignore"):
            context.minimum_version = ssl.TLSVersion.TLSv1
        return context

    context = tls_context(None, lax)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert {cipher["protocol"] for cipher in context.get_ciphers()} <= {"TLSv1.2", "TLSv1.3"}


def test_handshakes_and_heads_that_never_end_stop_nobody(server: Server) -> None:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with ExitStack() as stack:
        address = ("127.0.0.1", int(server.address.rpartition(":")[2]))
        slow = [stack.enter_context(socket.create_connection(address)) for _ in range(120)]
        for each in slow[:60]:
            each.sendall(b"\x16\x03\x01")
        for each in slow[60:]:
            stack.enter_context(trusting.wrap_socket(each)).sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n")
        assert curl(server, "--insecure", "--max-time", "5").returncode == 0


def test_a_head_in_pieces_is_answered_and_so_are_two_at_once(server: Server) -> None:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    address = ("127.0.0.1", int(server.address.rpartition(":")[2]))
    with trusting.wrap_socket(socket.create_connection(address, timeout=20)) as slow:
        for piece in (b"GET /health/live HTTP/1.1\r\n", b"Host: x\r\n", b"\r\n"):
            slow.sendall(piece)
            time.sleep(0.1)
        assert slow.recv(1000).startswith(b"HTTP/1.1 200")
        slow.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        said = b""
        while said.count(b"HTTP/1.1 200") < 2:
            said += slow.recv(1000)


def test_plain_http_is_cut_off(server: Server) -> None:
    address = ("127.0.0.1", int(server.address.rpartition(":")[2]))
    with socket.create_connection(address, timeout=20) as plain:
        plain.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        with suppress(ConnectionResetError):
            assert b"200" not in plain.recv(100)


def health_check() -> list[str]:
    """What Docker runs in the container, for a program that lies here."""
    lines = (ROOT / "deploy" / "docker" / "Dockerfile").read_text().partition("HEALTHCHECK")[2].partition("\nENTRY")[0]
    argv: list[str] = json.loads(lines.partition("CMD")[2].replace("\\\n", ""))
    return [sys.executable, *(part.replace("/app", str(ROOT)) for part in argv[1:])]


def test_the_images_health_check_speaks_what_the_witness_speaks(server: Server, said: str, tmp_path: Path) -> None:
    def is_healthy(port: str, cert: str = "", key: str = "") -> bool:
        named = {"ZFS_SYNC_PORT": port, "ZFS_SYNC_TLS_CERT": cert, "ZFS_SYNC_TLS_KEY": key}
        done = subprocess.run(
            health_check(), cwd=tmp_path, env={**os.environ, **named}, capture_output=True, check=False, timeout=60
        )
        return done.returncode == 0

    port = server.address.rpartition(":")[2]
    assert is_healthy(port, field(said, "tls_cert"), field(said, "tls_key"))
    assert not is_healthy(port)
    (tmp_path / "zfs_sync.yaml").write_text("port: 0\nworkers: 1\n")
    with serving(tmp_path, workers=1) as plain:
        assert is_healthy(plain.address.rpartition(":")[2])


def test_an_agent_trusts_the_pinned_witness_and_no_other(server: Server, said: str, tmp_path: Path) -> None:
    keys = dict(KEY.findall(server.said))
    trust = {"ca_file": field(said, "tls_cert"), "enroll_key": keys["enroll"]}
    good = make_host("nas", tmp_path, server.address, pinned_key=field(said, "pinned_key"), **trust)
    assert good.agent("register").returncode == 0
    other = make_host("other", tmp_path, server.address, pinned_key=WRONG_PIN, **trust)
    refused = other.agent("register")
    assert refused.returncode != 0
    assert keys["enroll"] not in refused.stderr
    assert [system["hostname"] for system in registered(server, keys["admin"], said)] == ["nas"]


def registered(server: Server, key: str, said: str) -> list[dict[str, str]]:
    argv = [need("curl"), "-q", "-sS", "--cacert", field(said, "tls_cert"), "-H", f"X-API-Key: {key}"]
    done = subprocess.run([*argv, f"{server.address}/api/v1/systems"], capture_output=True, text=True, check=True)
    listed: list[dict[str, str]] = json.loads(done.stdout)
    return listed
