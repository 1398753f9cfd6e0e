"""Is the witness itself well? And the key that its plans are signed with."""

from typing import Any

from handlers.request import Answer, Request
from handlers.signing import public_key_pem
from store import Busy, StoreError


def show_health(request: Request) -> dict[str, Any]:
    """Say that the witness answers."""
    return {"status": "ok", "service": "zfs-sync"}


def show_liveness(request: Request) -> dict[str, Any]:
    """Say that the process lives; asks nothing of the store."""
    return {"status": "alive"}


def show_readiness(request: Request) -> Answer:
    """Say whether the store can be read and written, and whether zfs_sync.yaml's groups are in force."""
    problems = []
    try:
        request.store.check()
    except (Busy, StoreError) as error:
        problems.append(str(error))
    request.witness.groups_file.current()
    groups_error = request.witness.groups_file.error
    body: dict[str, Any] = {"status": "ready", "groups_error": groups_error}
    if problems:
        body = {"status": "not ready", "detail": "; ".join(problems), "status_code": 503, "groups_error": groups_error}
        return Answer(body, status=503, headers={"Retry-After": "30"})
    return Answer(body)


def show_public_key(request: Request) -> Answer:
    """The Ed25519 public key that verifies plans, as PEM."""
    return Answer(public_key_pem(request.store.secret), content_type="application/x-pem-file")
