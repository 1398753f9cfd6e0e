"""Every key that a real server issued, looked for in everything that it wrote and showed to the operating system."""

import http.client
import json
from pathlib import Path
from typing import Any

from tests.test_serve import KEY, Server, serving


def call(server: Server, method: str, path: str, key: str, body: Any = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", int(server.address.rpartition(":")[2]), timeout=60)
    headers = {"X-API-Key": key, **({} if body is None else {"Content-Type": "application/json"})}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    said = answer.status, answer.read().decode()
    connection.close()
    return said


def use_everything(server: Server) -> tuple[set[str], str]:
    """Issue keys of every kind, use them well and badly; the keys, and all answers that do not issue one."""
    keys = dict(KEY.findall(server.said))
    issued, shown = set(keys.values()), ""
    _, said = call(server, "POST", "/api/v1/systems/register", keys["enroll"], {"hostname": "nas"})
    nas = json.loads(said)
    _, said = call(server, "POST", f"/api/v1/systems/{nas['id']}/api-key/rotate", nas["api_key"])
    second = json.loads(said)["api_key"]
    issued |= {nas["api_key"], second}
    for key in sorted(issued):
        for method, path, body in (
            ("GET", "/api/v1/systems", None),
            ("GET", "/api/v1/events", None),
            ("GET", f"/api/v1/systems/{nas['id']}", None),
            ("POST", f"/api/v1/systems/{nas['id']}/heartbeat", {"agent_version": "1"}),
            ("PUT", f"/api/v1/systems/{nas['id']}", {"ssh_port": key}),  # of the wrong type
            ("POST", "/api/v1/systems/register", {"hostname": "nas"}),
            ("PUT", "/api/v1/sync-groups", {"name": key}),
            ("GET", f"/api/v1/events?what={key}x&limit=none", None),
        ):
            shown += call(server, method, path, key, body)[1]
        shown += call(server, "GET", "/api/v1/systems", f"{key}x")[1]
    shown += call(server, "DELETE", f"/api/v1/systems/{nas['id']}/api-key", second)[1]
    shown += call(server, "GET", "/api/v1/systems", second)[1]
    return issued, shown


def test_no_key_is_in_logs_files_answers_or_process_lists(tmp_path: Path) -> None:
    (tmp_path / "zfs_sync.yaml").write_text("port: 0\nlog_file: witness.log\nlog_level: DEBUG\ndata_dir: data\n")
    with serving(tmp_path) as server:
        issued, shown = use_everything(server)
        assert len(issued) == 4
        pids = [server.process.pid, *server.workers()]
        shown += "".join(Path(f"/proc/{pid}/{what}").read_text() for pid in pids for what in ("cmdline", "environ"))
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != server.out]
    assert {"witness.log", "registry.json", "err"} <= {path.name for path in written}
    everything = shown + "".join(path.read_text(errors="replace") for path in written)
    assert "auth.refused" in everything
    assert [key.partition(".")[0] for key in issued if key.partition(".")[2] in everything] == []


def test_what_it_keeps_is_its_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "zfs_sync.yaml").write_text("port: 0\ndata_dir: data\n")
    with serving(tmp_path) as server:
        use_everything(server)
        kept = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
        assert [str(path) for path in kept if path.stat().st_mode & 0o077] == []
