"""Systems, one system with its datasets, and the page that brings a new one in."""

import hashlib
import shlex
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from handlers import answers as a
from handlers.beats import beat_of
from handlers.bodies import Hostname, Offset, Platform, Port, SshHostname, SshUser, SystemBody
from handlers.dashboard.matrix import pages
from handlers.dashboard.rendering import Page, Visit
from handlers.dashboard.standing import standings
from handlers.dashboard.uncovered import uncovered_datasets
from handlers.errors import Refused, refusal_of
from handlers.request import Answer, Request
from handlers.sync_groups import visible_groups
from handlers.systems import held_at, list_system_health, register_system, show_system, show_system_health
from store import REGISTRY, AlreadyExists, inventory_of

AGENT = Path(__file__).parents[2] / "deploy" / "zfs-sync-agent"
SHOWN = 50


class SystemQuery(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which part of a system's copies to show."""

    offset: Offset = 0


class NewSystemForm(Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """A system to come."""

    hostname: Hostname
    platform: Platform = "linux"
    ssh_hostname: SshHostname | None = None
    ssh_user: SshUser | None = None
    ssh_port: Port = 22
    root: Annotated[str, Meta(max_length=256)] = "tank"


def systems_health(request: Request) -> list[a.SystemHealth]:
    """The health of every system that the caller may see."""
    health = list_system_health(request).body
    assert not isinstance(health, bytes)
    return health


def show_systems(visit: Visit) -> Page:
    """Show every system: whether it is there, and how old what is known of it is."""
    request = visit.request
    known = {system.id: system for system in request.store.read(REGISTRY).systems.all()}
    groups = visible_groups(request)
    rows = [
        {
            **health,
            "held_at": held_at(request.store, health["system_id"]),
            "system": known[health["system_id"]],
            "groups": [group for group in groups if group.has(health["system_id"])],
            "agent_version": _beat(visit, health["system_id"], "agent_version"),
        }
        for health in systems_health(request)
        if health["system_id"] in known
    ]
    order = ("offline", "unknown", "online")
    rows.sort(key=lambda row: (order.index(row["connectivity_status"]), row["hostname"]))
    expected = sorted(
        {(member.hostname, group.name) for group in groups for member in group.members if not member.registered}
    )
    values = {"rows": rows, "expected": expected, "uncovered": len(uncovered_datasets(request))}
    return Page("systems", "Systems", values)


def _beat(visit: Visit, system_id: str, name: str) -> Any:
    return getattr(beat_of(visit.request.store, system_id), name, None)


def show_one_system(visit: Visit, system_id: str, query: SystemQuery) -> Page:
    """Show one system with its copies, the worst first. Raises NotFound."""
    request = visit.request
    shown = show_system(request, system_id)
    found = [
        copy
        for standing in standings(request)
        if standing.group.has(system_id)
        for copy in standing.copies
        if copy.system_id == system_id and (copy.newest or copy.state not in ("ok", "source"))
    ]
    found.sort(key=lambda copy: copy.badness)
    inventory = request.store.read(inventory_of(system_id))
    health = show_system_health(request, system_id)
    values = {
        "system": shown,
        "health": {**health, "held_at": held_at(request.store, health["system_id"])},
        "agent_version": _beat(visit, system_id, "agent_version"),
        "zfs_version": _beat(visit, system_id, "zfs_version"),
        "copies": found[query.offset : query.offset + SHOWN],
        "copy_pages": pages(visit, query, "offset", len(found), SHOWN),
        "uncovered": [each for each in uncovered_datasets(request) if each.system_id == system_id],
        "guards": inventory.guards.all(),
    }
    return Page("system", shown["hostname"], values)


# --- a new one -----------------------------------------------------------------------------------


def show_new_system(visit: Visit) -> Page:
    """Show the form for a system to come, and what will be done there."""
    return _new_system(visit)


def register_new_system(visit: Visit, form: NewSystemForm) -> Page:
    """Register a system, and show the commands that set its agent up; its key is in them, this once."""
    body = SystemBody(
        hostname=form.hostname,
        platform=form.platform,
        ssh_hostname=form.ssh_hostname,
        ssh_user=form.ssh_user,
        ssh_port=form.ssh_port,
    )
    try:
        made = register_system(visit.request, body).body
        assert not isinstance(made, bytes)
    except AlreadyExists as error:
        return _new_system(visit, form=form, refused=refusal_of(error))
    return _new_system(visit, form=form, commands=_commands(visit, form, made))


def _new_system(
    visit: Visit,
    *,
    form: NewSystemForm | None = None,
    refused: Refused | None = None,
    commands: list[tuple[str, str]] | None = None,
) -> Page:
    values = {
        "form": form or NewSystemForm(hostname="new-host"),
        "is_new": form is None,
        "refused": refused,
        "commands": commands,
    }
    return Page("new_system", "Add a system", values, status=refused.status if refused else 200, is_live=False)


def _commands(visit: Visit, form: NewSystemForm, made: a.RegisteredSystem) -> list[tuple[str, str]]:
    """What to paste on the new system, step by step, each with what it does."""
    lines = {
        "witness": visit.address,
        "system_id": made["id"],
        "api_key": made["api_key"],
        "hostname": made["hostname"],
        "platform": made["platform"],
    }
    config = "".join(f"{name} = {value}\n" for name, value in lines.items())
    address = shlex.quote(f"{visit.address}/dashboard/agent")
    place = "/usr/local/bin/zfs-sync-agent"
    digest = hashlib.sha256(AGENT.read_bytes()).hexdigest() if AGENT.is_file() else None
    fetch = f"curl -fsS -o {place} {address}\n"
    check = f"echo '{digest}  {place}' | sha256sum -c && chmod 755 {place}" if digest else f"chmod 755 {place}"
    hostname = made["hostname"]
    return [
        ("Fetch the agent: one file of POSIX sh, which needs curl and ssh", fetch + check),
        (
            "Tell it who it is: only root may read the key",
            f"install -d -m 700 /etc/zfs-sync\n(umask 077; cat > /etc/zfs-sync/agent.conf) <<'EOF'\n{config}EOF",
        ),
        (
            "Look for what could go wrong, then report what is on the pools",
            "zfs-sync-agent doctor\nzfs-sync-agent report",
        ),
        (
            "Run it every ten minutes",
            "echo '*/10 * * * * root /usr/local/bin/zfs-sync-agent run' > /etc/cron.d/zfs-sync",
        ),
        (
            "On the witness: name it in a group of zfs_sync.yaml, with the dataset that its copies lie below",
            f"      {hostname}: {{root: {form.root}}}",
        ),
    ]


def send_agent(visit: Visit) -> Answer[bytes]:
    """The agent itself, for a new system to fetch: it holds nothing secret."""
    if not AGENT.is_file():
        refused = Refused("the agent's file is not beside this witness: copy deploy/zfs-sync-agent by hand")
        refused.status = 404
        raise refused
    body = AGENT.read_bytes()
    return Answer(body, content_type="text/plain; charset=utf-8")
