"""Is the witness itself well? And the key that its plans are signed with."""

from handlers import answers as a
from handlers.notify import stuck_messages
from handlers.request import Answer, Request
from handlers.signing import public_keys_pem
from handlers.tick import last_tick
from planner.words import span
from store import Busy, StoreError

OVERDUE = 3  # times tick_s


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
    warnings = _warnings(request)
    if problems:
        body: a.Readiness = {
            "status": "not ready",
            "detail": "; ".join(problems),
            "status_code": 503,
            "groups_error": groups_error,
            "warnings": warnings,
        }
        return Answer(body, status=503, headers={"Retry-After": "30"})
    return Answer({"status": "ready", "groups_error": groups_error, "warnings": warnings})


def _warnings(request: Request) -> list[str]:
    """Why nobody may hear of what is wrong. The witness serves all the same."""
    try:
        last, stuck = last_tick(request.witness), stuck_messages(request.store)
    except StoreError as error:
        return [str(error)]
    warnings = []
    if last is None:
        warnings.append("nothing has looked for alerts yet: the service does, or `zfs_sync.py tick` from cron")
    elif (since_s := (request.now - last.started_at).total_seconds()) > OVERDUE * request.config.tick_s:
        warnings.append(f"nothing has looked for alerts for {span(since_s)}: the log says why")
    if stuck:
        few = "1 message does" if len(stuck) == 1 else f"{len(stuck)} messages do"
        warnings.append(f"{few} not get through: `zfs_sync.py notify` says why")
    return warnings


def show_public_key(request: Request) -> Answer[str]:
    """The Ed25519 public key that verifies plans, as PEM; after it the next one, once that is made."""
    return Answer(public_keys_pem(request.store, request.now), content_type="application/x-pem-file")
