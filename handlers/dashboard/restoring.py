"""How to get data back from a copy: commands that only read it, and that never write over anything."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from handlers.dashboard.standing import Copy
from handlers.instructions import GroupPlan
from planner.commands import commands_of, shell_line
from planner.encryption import is_cipher
from planner.model import Member, Replica, Snapshot, Step
from planner.paths import dataset_of

FOLDER = "/mnt/restore"


@dataclass(frozen=True, slots=True)
class Restore:
    """What to type on one system, to get something back from its copy."""

    hostname: str
    dataset: str
    snapshot: str
    note: str
    one_file: str
    whole: str
    whole_to: str


def restores_of(context: GroupPlan, copies: Sequence[Copy], copy: Copy) -> list[Restore]:
    """How to get data back from this copy: one way, or none where it has no snapshot."""
    member = context.members[copy.system_id]
    replica = member.replicas.get(dataset_of(member, copy.path))
    newest = replica.newest if replica is not None else None
    if replica is None or newest is None or newest.by_name:
        return []
    source = next((other for other in copies if other.is_source), copy)
    to = context.members[source.system_id]
    return [
        Restore(
            hostname=member.hostname,
            dataset=replica.dataset,
            snapshot=newest.name,
            note=_note(replica),
            one_file=_one_file(replica, newest),
            whole=_whole(context, replica, newest, member, to, copy.path),
            whole_to=to.hostname,
        )
    ]


def _note(replica: Replica) -> str:
    if is_cipher(replica.encryption):
        return "It is encrypted: to read it here, its key must be loaded first (zfs load-key)."
    return ""


def _one_file(replica: Replica, snapshot: Snapshot) -> str:
    """Look into a snapshot. Mounting one leaves its dataset as it is (mount.zfs(8)); a volume's is a device."""
    name = f"{replica.dataset}@{snapshot.name}"
    if replica.kind == "volume":
        device = f"/dev/zvol/{name}"
        lines = [
            ["zfs", "set", "snapdev=visible", replica.dataset],
            ["ls", "-l", device],
        ]
        return "\n".join(shlex.join(line) for line in lines)
    mount = ["mount", "-t", "zfs", "-o", "ro", name, FOLDER]
    look = [["mkdir", "-p", FOLDER], mount, ["ls", FOLDER]]
    lines_text = [shlex.join(line) for line in look]
    return "\n".join([*lines_text, f"cp -a {FOLDER}/PATH/TO/FILE .", shlex.join(["umount", FOLDER])])


def _whole(context: GroupPlan, replica: Replica, snapshot: Snapshot, member: Member, to: Member, path: str) -> str:
    """A full stream into a new dataset beside the one that was lost: what exists is never received into."""
    step = Step(
        action_id="restore",
        type="create",
        path=path,
        executor=member.system_id,
        target=to.system_id,
        target_dataset=f"{dataset_of(to, path) or replica.dataset}-restored",
        reason="",
        source=member.system_id,
        source_dataset=replica.dataset,
        kind=replica.kind,
        end=snapshot,
        raw=is_cipher(replica.encryption),
        properties=(("readonly", "off"),),
    )
    return shell_line(commands_of(step, context.policy, context.members))
