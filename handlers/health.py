"""Is the witness itself well? And the key that its plans are signed with."""

from handlers import answers as a
from handlers.request import Answer, Request
from handlers.signing import public_keys_pem
from store import Busy, StoreError


def show_health(request: Request) -> a.Health:
    """Say that the witness answers."""
    return {"status": "ok", "service": "zfs-sync"}


def show_liveness(request: Request) -> a.Liveness:
    """Say that the process lives; asks nothing of the store."""
    return {"status": "alive"}


def show_readiness(request: Request) -> Answer[a.Readiness]:
    """Say whether the store can be read and written, and whether zfs_sync.yaml's groups are in force."""
    problems = []
    try:
        request.store.check()
    except (Busy, StoreError) as error:
        problems.append(str(error))
    request.witness.groups_file.current()
    groups_error = request.witness.groups_file.error
    if problems:
        body: a.Readiness = {
            "status": "not ready",
            "detail": "; ".join(problems),
            "status_code": 503,
            "groups_error": groups_error,
        }
        return Answer(body, status=503, headers={"Retry-After": "30"})
    return Answer({"status": "ready", "groups_error": groups_error})


def show_public_key(request: Request) -> Answer[str]:
    """The Ed25519 public key that verifies plans, as PEM; after it the next one, once that is made."""
    return Answer(public_keys_pem(request.store, request.now), content_type="application/x-pem-file")
