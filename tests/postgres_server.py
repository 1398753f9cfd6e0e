"""A PostgreSQL server for tests: on a socket in a folder of its own, and gone with the process that wanted it."""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

USER = "postgres"  # a server refuses to run as root
MEMORY = Path("/dev/shm")  # where it is
OPTIONS = ("listen_addresses=", "fsync=off", "full_page_writes=off", "max_connections=200")


class Server:
    """A server, its superuser, and a schema for each test. With a `primary`, the standby that follows it."""

    def __init__(self, programs: Path, primary: "Server | None" = None) -> None:
        self._programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="zfs-sync-pg-", dir=MEMORY if MEMORY.is_dir() else None))
        self._names = (f"t{number}" for number in itertools.count())
        self._process: subprocess.Popen[bytes] | None = None
        if os.getuid() == 0:
            os.chown(self.folder, pwd.getpwnam(USER).pw_uid, -1)
        followed = ["pg_basebackup", "-D", str(self.folder / "data"), "-R", "-X", "stream", "-c", "fast", "-U", USER]
        made = ["initdb", "-D", str(self.folder / "data"), "-A", "trust", "-U", USER, "-N", "--no-locale", "-E", "UTF8"]
        command = [*followed, "-h", str(primary.folder)] if primary is not None else made
        subprocess.run(self._as_user(command), check=True, stdout=subprocess.DEVNULL)
        self.start()

    def address(self, schema: str = "public", user: str = USER, **options: str) -> str:
        """A store_url for a schema, by which tests are apart."""
        given = {"host": str(self.folder), "options": f"-csearch_path={schema}", **options}
        return f"postgresql://{user}@/postgres?" + "&".join(f"{key}={quote(text)}" for key, text in given.items())

    def new_schema(self) -> str:
        """An empty schema."""
        name = next(self._names)
        self.run(f"CREATE SCHEMA {name}")
        return name

    def run(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """What the superuser is answered."""
        with psycopg.connect(self.address(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def end_connections(self) -> None:
        """What a proxy, a failover or an impatient administrator does."""
        self.run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'zfs-sync' AND pid <> pg_backend_pid()"
        )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        given = [part for option in OPTIONS for part in ("-c", option)]
        command = ["postgres", "-D", str(self.folder / "data"), "-k", str(self.folder), *given]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._as_user(command), stdout=log, stderr=log)
        for _ in range(600):
            try:
                self.run("SELECT 1")
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.05)
        raise AssertionError("PostgreSQL did not start")

    def stop(self, how: str = "immediate") -> None:
        """End it: `fast` takes leave of its clients, `immediate` is a crash."""
        if self._process is not None:
            command = ["pg_ctl", "stop", "-D", str(self.folder / "data"), "-m", how, "-s"]
            subprocess.run(self._as_user(command), check=True)
            self._process.wait()
            self._process = None

    def promote(self) -> None:
        """Let a standby take the place of its primary."""
        subprocess.run(self._as_user(["pg_ctl", "promote", "-D", str(self.folder / "data"), "-s", "-w"]), check=True)

    def _as_user(self, command: list[str]) -> list[str]:
        program = [str(self._programs / command[0]), *command[1:]]
        if os.getuid() != 0:
            return program
        return ["setpriv", f"--reuid={USER}", "--regid=postgres", "--clear-groups", "--pdeathsig=INT", *program]


def programs() -> Path | None:
    """The folder with initdb and postgres, which Debian does not put on PATH; the newest version's."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), reverse=True)
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


@contextmanager
def server(primary: Server | None = None) -> Iterator[Server]:
    """A server, for as long as the block takes. Skips the test where none can be had."""
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    started = Server(folder, primary)
    try:
        yield started
    finally:
        started.stop()
        shutil.rmtree(started.folder)
