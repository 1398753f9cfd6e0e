"""A real HTTP server that keeps what it is sent: where messages and pings of a witness arrive."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Received:
    """One request that arrived."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


@dataclass
class Receiver:
    """Where it listens, what came, and what it answers."""

    address: str = ""
    requests: list[Received] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)  # of the next answers; 200 once they are used up

    def posted(self, path: str = "/hook") -> list[Received]:
        return [each for each in self.requests if (each.method, each.path) == ("POST", path)]

    def told(self) -> list[tuple[str, str]]:
        """Every transition that came: raised or over, and the kind of alert."""
        return [(alert["state"], alert["kind"]) for each in self.posted() for alert in each.json["alerts"]]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A Receiver on a free port."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def _keep(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.requests.append(Received(self.command, self.path, headers, raw))
            self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = _keep

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
