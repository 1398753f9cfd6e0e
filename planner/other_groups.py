"""What a group does to the datasets of a system that is also a member of another."""

from collections.abc import Iterator

from planner.globs import selects
from planner.model import Policy, Replica
from planner.paths import dataset_of, path_of
from planner.sites import Scene, Site


def sent_by_others(scene: Scene, target: Site, dataset: str) -> Iterator[tuple[Policy, Replica]]:
    """What other groups send to a dataset on a target: the policy of each, and what its senders have."""
    for each in scene.work.neighbours_in_order:
        policy, members = each.policy, {member.system_id: member for member in each.members}
        path = path_of(members[target.id], dataset) if target.id in members else None
        if path is None or target.id == policy.hub or not policy.enabled:
            continue
        if not selects(policy.include, policy.exclude, path):
            continue
        senders = [policy.hub] if policy.hub in members else [other for other in members if other != target.id]
        for sender in (members[system_id] for system_id in senders if system_id is not None):
            name = dataset_of(sender, path)
            held = sender.replicas.get(name) or sender.absent.get(name)
            if held is not None:
                yield policy, held
