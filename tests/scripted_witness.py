"""A witness that says what a test tells it to: for what the real one would never send to an agent."""

import base64
import gzip
import json
import re
import socket
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from handlers.instructions import LINE_FIELDS

Answer = tuple[int, Any, dict[str, str]]  # status; bytes or a value for JSON; headers
BOOLEANS = ("base_is_bookmark", "is_incremental", "destructive", "raw", "intermediates", "embedded")


def action(**fields: str) -> dict[str, str]:
    """A line of a plan: what is not given is `-`, or false."""
    return {name: fields.get(name, "false" if name in BOOLEANS else "-") for name in LINE_FIELDS} | fields


class ScriptedWitness(ThreadingHTTPServer):
    """Plays `plan` to each agent: an action goes once it is finished. `calls` keeps what was asked, in order."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan: list[dict[str, str]] = []
        self.inventory = "current"
        self.key: Ed25519PrivateKey | None = None
        self.public_keys = b""  # as PEM
        self.expires = int(time.time()) + 600
        self.change: Callable[[bytes], bytes] = lambda body: body  # applied after signing
        self.refusals: dict[str, int] = {}  # "start", "progress", "finish", "inventory" ...: status
        self.faults: dict[str, Answer | None] = {}  # part of a path: what it answers there; None: the line is cut
        self.lease_s = 600
        self.limit = 99  # transfers at once
        self.under_way: set[str] = set()
        self.next_sync_s = 3600
        self.date = ""  # what it takes the time to be, if not the right one
        self.calls: list[tuple[str, str, bytes, dict[str, str]]] = []
        self.finished: dict[str, tuple[int, str, str]] = {}  # by action: status, received guid, log
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def paths(self, ending: str) -> list[str]:
        """The calls whose path ends so."""
        return [path for _, path, _, _ in self.calls if path.endswith(ending)]

    def bodies(self, part: str) -> list[bytes]:
        """The bodies of the calls whose path contains this."""
        return [body for _, path, body, _ in self.calls if part in path]

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Answer:
        """What one request gets."""
        for part, status in self.refusals.items():
            if f"/{part}" in path:
                return status, {"detail": f"scripted refusal of {part}", "status_code": status}, {}
        if path.endswith("/health") or path == "/api/v1/systems/nas":
            return 200, {"status": "ok"}, {}
        if path.endswith("/public-key"):
            return 200, self.public_keys, {}
        if path.endswith("/register"):
            return 201, {"id": "5f0c6b1e-0000-4000-8000-000000000001", "hostname": "nas", "api_key": "k1.secret"}, {}
        if path.endswith("/heartbeat"):
            said = {"status": "ok", "inventory": self.inventory, "groups": [], "next_sync_in_s": self.next_sync_s}
            return 200, said, {"X-Inventory": self.inventory}
        if "/inventory" in path:
            return 200, {"added": 1, "digest": "0"}, {}
        if "/sync/instructions/" in path:
            return self.instructions(path.rpartition("/")[2])
        if found := re.fullmatch(r".*/actions/(.*)/(start|progress|finish)(?:/(\d+))?", path):
            return self.act(found[1], found[2], int(found[3] or 0), body, headers)
        return 404, {"detail": f"no {method} {path}", "status_code": 404}, {}

    def instructions(self, system_id: str) -> Answer:
        rows = [row for row in self.plan if row["executor_system_id"] == system_id or "bad" in row["action_id"]]
        names = list(rows[0]) if rows else list(LINE_FIELDS)
        body = "".join(
            "\t".join(cells) + "\n" for cells in [names, *([row[n] for n in names] for row in rows)]
        ).encode()
        headers = {"X-Plan-Expires": str(self.expires)}
        if self.key:
            signature = self.key.sign(body + str(self.expires).encode())
            headers["X-Plan-Signature"] = base64.b64encode(signature).decode()
        return 200, self.change(body), headers

    def act(self, action_id: str, verb: str, status: int, body: bytes, headers: dict[str, str]) -> Answer:
        if verb == "start":
            if len(self.under_way - {action_id}) >= self.limit:
                return 409, {"detail": "nas is at its max_transfers", "status_code": 409}, {"Retry-After": "60"}
            self.under_way.add(action_id)
            return 200, {"lease_token": "t0ken"}, {"X-Lease-Token": "t0ken", "X-Lease-Seconds": str(self.lease_s)}
        if headers.get("X-Lease-Token") != "t0ken":
            return 403, {"detail": "not this lease's token", "status_code": 403}, {}
        if verb == "finish":
            self.under_way.discard(action_id)
            self.finished[action_id] = (status, headers["X-Received-Guid"], body.decode())
            self.plan = [row for row in self.plan if row["action_id"] != action_id]
        return 200, {"action_id": action_id}, {}


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: ScriptedWitness

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.calls.append((self.command, self.path, body, dict(self.headers)))
        fault = [answer for part, answer in self.server.faults.items() if part in self.path]
        self.close_connection = bool(fault)
        if None in fault:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        answer = fault[0] if fault else self.server.answer(self.command, self.path, body, dict(self.headers))
        status, said, headers = answer or (500, {}, {})
        sent = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(sent)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(sent)

    do_GET = do_PUT = do_POST

    def date_time_string(self, timestamp: float | None = None) -> str:
        """For the Date header."""
        return self.server.date or super().date_time_string(timestamp)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: `calls` has it."""
