"""A client for tests: the witness's API in the few calls that tests make all the time."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from webtest import TestApp

from handlers.auth import ensure_first_keys, make_key
from handlers.inventories import put_dataset
from handlers.request import Witness
from store import REGISTRY, heartbeat_of, inventory_of
from store.documents import Role
from tests import doorways
from tests.contract import checked

ADMIN = "admin.0123456789abcdef0123456789abcdef"
ENROLL = "enroll.0123456789abcdef0123456789abcdef"
LISTINGS = Path(__file__).parent / "data"
TSV = "text/tab-separated-values"
BASE = "/api/v1"
NOBODY = "0b5c8f0e-0000-4000-8000-000000000000"  # an id that nothing has


def client_of(witness: Witness) -> "Client":
    """A witness's API with the admin's key."""
    return Client(TestApp(checked(doorways.front(witness))), witness)


class Client:
    """The API below /api/v1 with one key. Calls raise for statuses other than 2xx, unless `status` says what is due."""

    def __init__(self, app: TestApp, witness: Witness, key: str | None = ADMIN) -> None:
        self.app, self.witness, self.key = app, witness, key
        ensure_first_keys(witness.store, witness.config, datetime.now(UTC))

    def with_key(self, key: str | None) -> "Client":
        """The same witness with another key."""
        return Client(self.app, self.witness, key)

    def with_role(self, role: Role) -> "Client":
        """The same witness with a new key of a role."""
        key, text = make_key(self.witness.store, role, datetime.now(UTC), length=32)
        with self.witness.store.transaction(REGISTRY) as tx:
            tx[REGISTRY].keys.put(key)
        return self.with_key(text)

    def call(self, method: str, path: str, json: Any = None, **options: Any) -> Any:
        """The response to one call."""
        headers = {**({"X-API-Key": self.key} if self.key else {}), **options.pop("headers", {})}
        if json is not None:
            return getattr(self.app, f"{method.lower()}_json")(BASE + path, json, headers=headers, **options)
        return getattr(self.app, method.lower())(BASE + path, headers=headers, **options)

    def get(self, path: str, **options: Any) -> Any:
        """The JSON at a path."""
        return self.call("GET", path, **options).json

    def register(self, hostname: str, **fields: Any) -> "Agent":
        """Register a system; its agent."""
        shown = self.call("POST", "/systems/register", {"hostname": hostname, **fields}, status=201).json
        return Agent(self.app, self.witness, shown["api_key"], shown["id"], hostname)


class Agent(Client):
    """The API as one system's agent calls it."""

    def __init__(self, app: TestApp, witness: Witness, key: str, system_id: str, hostname: str) -> None:
        super().__init__(app, witness, key)
        self.id, self.hostname = system_id, hostname

    def report(self, listing: str | bytes, columns: str | None = None, **options: Any) -> Any:
        """Report raw `zfs list -Hp` output; the counts."""
        raw = listing.encode() if isinstance(listing, str) else listing
        path = f"{BASE}/systems/{self.id}/inventory" + (f"?columns={columns}" if columns else "")
        headers = {"X-API-Key": self.key, **options.pop("headers", {})}
        return self.app.put(path, raw, headers=headers, content_type=TSV, **options).json

    def report_file(self, name: str) -> Any:
        """Report one of the real listings, e.g. "nas"."""
        return self.report((LISTINGS / f"{name}.tsv").read_bytes())

    def grow_old(self) -> None:
        """Move the times at which the inventory's snapshots were first seen and last changed an hour into the past."""
        inventory = inventory_of(self.id)
        with self.witness.store.transaction(inventory) as tx:
            for document in tx[inventory].datasets.all():
                rows = [
                    msgspec.structs.replace(row, first_seen=row.first_seen - 3600, changed=row.changed - 3600)
                    for row in document.snapshots
                ]
                put_dataset(tx[inventory], msgspec.structs.replace(document, snapshots=rows))

    def grow_silent(self, **ago: float) -> None:
        """Move all that the system said into the past: hours=3."""
        beats, inventory = heartbeat_of(self.id), inventory_of(self.id)
        with self.witness.store.transaction(beats, inventory) as tx:
            for table in (tx[beats].heartbeats, tx[inventory].reports):
                for found in table.all():
                    at = {name: getattr(found, name, None) for name in ("last_seen_at", "confirmed_at", "reported_at")}
                    earlier = {name: moment - timedelta(**ago) for name, moment in at.items() if moment is not None}
                    table.put(msgspec.structs.replace(found, **earlier))


def place_of(witness: Witness) -> Path | str:
    """Where another process would open a witness's store."""
    return witness.config.store_url or witness.config.data_dir
