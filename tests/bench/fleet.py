"""Systems with inventories, as many and as large as wanted: what they report, and a witness that was told."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import config
from handlers.auth import ensure_first_keys
from handlers.request import Witness
from handlers.routes import make_app
from tests.witness import ADMIN, BASE, ENROLL, TSV
from zfs_sync import open_witness

FIRST_CREATION = 1_760_000_000


def listing(system: int, datasets: int, snapshots: int, behind_percent: float = 0) -> bytes:
    """What a system's `zfs list -Hp` prints. Snapshots have the same guids on every system; in so many percent of the
    datasets, spread evenly, all systems but the first lack the newest."""
    lines = []
    for dataset in range(datasets):
        name = f"tank/data/{dataset:05}"
        own = 10**18 + system * 10**9 + dataset
        late = system > 0 and int((dataset + 1) * behind_percent / 100) > int(dataset * behind_percent / 100)
        lines.append(f"{name}\tfilesystem\t{own}\t10\t{FIRST_CREATION}\t9000000\t8000000\t0\toff\t-\t-")
        base = 10**19 + dataset * 10**6
        lines += [
            f"{name}@auto-{n:06}\tsnapshot\t{base + n}\t{1000 + n * 7 + system}\t{FIRST_CREATION + 900 * n}"
            f"\t{4096 * (n % 9)}\t{8_000_000 + n}\t{4096 + n}\toff\t-\t-"
            for n in range(snapshots - late)
        ]
    return "\n".join(lines).encode() + b"\n"


class Asker:
    """The API without a network: requests straight to the app, as the admin."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness
        self.app = make_app(witness)

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = "application/json", **headers: str) -> bytes:
        """The body of an answer that must be a good one (or 304)."""
        statuses: list[str] = []
        path, _, query = path.partition("?")
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": BASE + path,
            "QUERY_STRING": query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": kind,
            "HTTP_X_API_KEY": ADMIN,
            **{f"HTTP_{name.upper()}": value for name, value in headers.items()},
        }
        parts = self.app(environ, lambda status, headers, exc_info=None: statuses.append(status))
        answer = b"".join(parts)
        assert statuses[0][:3] in ("200", "201", "204", "304"), (method, path, statuses[0], answer[:500])
        return answer

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of an answer."""
        return json.loads(self.ask(method, path, b"" if body is None else json.dumps(body).encode()) or b"null")

    def report(self, system_id: str, listed: bytes) -> Any:
        """A full report; its counts."""
        return json.loads(self.ask("PUT", f"/systems/{system_id}/inventory", listed, TSV))

    def register(self, hostname: str) -> str:
        """A new system's id."""
        made = self.json("POST", "/systems/register", {"hostname": hostname, "ssh_user": "root"})
        return str(made["id"])


def asker_at(folder: Path, store_url: str | None = None) -> Asker:
    """A witness's API, with its store in the folder `data` of a folder, or in a database."""
    settings = folder / "zfs_sync.yaml"
    settings.write_text("workers: 2\nthreads: 8\nlog_level: WARNING\nrate_limits: {registration: 100000/second}\n")
    environ = {"ZFS_SYNC_ADMIN_KEY": ADMIN, "ZFS_SYNC_ENROLL_KEY": ENROLL}
    if store_url is not None:
        environ["ZFS_SYNC_STORE_URL"] = store_url
    witness = open_witness(config.load(settings, environ))
    ensure_first_keys(witness.store, witness.config, datetime.now(UTC))
    return Asker(witness)


def fill(asker: Asker, systems: int, datasets: int, snapshots: int, behind_percent: float = 0) -> tuple[str, list[str]]:
    """Let so many systems, in one group whose hub is the first, report; the group's id and theirs."""
    ids = []
    for number in range(systems):
        ids.append(asker.register(f"host-{number:03}"))
        asker.report(ids[-1], listing(number, datasets, snapshots, behind_percent))
    group = {
        "name": "all",
        "directional": True,
        "hub_system_id": ids[0],
        "system_ids": ids,
        "members": {id: {"root": "tank"} for id in ids},
    }
    return str(asker.json("POST", "/sync-groups", group)["id"]), ids
