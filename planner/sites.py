"""The members of a group as planning sees them: their datasets by path, and whether they may take part."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from planner.credits import apply_credits
from planner.globs import matches, selects
from planner.histories import History, history, is_certain
from planner.leases import moves, stands_in_the_way
from planner.model import Lease, Member, Policy, Snapshot, Step, Work
from planner.paths import ancestors, dataset_of, is_internal, is_set_aside, path_of, pool_of
from planner.words import span


@dataclass(frozen=True, slots=True)
class Site:
    """A member, its selected datasets by path, and what keeps it from being a source or a target."""

    member: Member
    place: int  # in the configured order
    histories: Mapping[str, History]  # by path; the last known ones where the pool is not imported
    existing: frozenset[str]  # full names, with those that the listing implies
    pools: frozenset[str]  # imported
    is_paused: bool
    unknown: str | None  # why its state is not known; None when it is
    busy: int  # transfers that it takes part in now
    seen: bool  # heard from lately

    @property
    def id(self) -> str:
        return self.member.system_id

    @property
    def host(self) -> str:
        return self.member.hostname

    def dataset(self, path: str) -> str:
        """The full name that a path has here."""
        return dataset_of(self.member, path)

    def unfit(self, path: str) -> str | None:
        """Why what this site last reported of a path may not be true now; None when it may be acted on."""
        if self.unknown is not None:
            return self.unknown
        pool = pool_of(path if self.member.root is None else self.member.root)
        if pool not in self.pools:
            return f"the pool {pool} of {self.host} is not in its inventory: it is not imported, or not there yet"
        return None

    @property
    def paused(self) -> str | None:
        """That somebody wants this site left alone."""
        return f"{self.host} is paused in this group" if self.is_paused else None

    def barred(self, path: str) -> str | None:
        """Why this site may be neither source nor target for a path; None when it may."""
        return self.unfit(path) or self.paused


@dataclass(frozen=True, slots=True)
class Scene:
    """All that planning one group looks at."""

    policy: Policy
    sites: tuple[Site, ...]  # in the configured order
    members: Mapping[str, Member]  # by system_id, with credits applied
    work: Work
    now: float
    leases: Mapping[tuple[str, str], Lease]  # running now, by target system and dataset
    guarded: frozenset[tuple[str, str]]  # (system, dataset): a mass deletion there is not accepted yet
    names: dict[str, bool]  # whether the group selects snapshots of a name, as far as asked
    paths: dict[str, dict[str, tuple[str, ...]]]  # by system and guid: the datasets with that snapshot, as far as asked
    senders: dict[str, tuple[Site, ...]]  # by path: the members that may send it, the best first, as far as asked
    pruned: dict[tuple[str, str], frozenset[str]]  # by system and dataset: the guids that went, as far as asked

    def selects_name(self, name: str) -> bool:
        """Whether the group's snapshot globs choose a name."""
        known = self.names.get(name)
        if known is None:
            known = self.names[name] = selects(self.policy.snapshot_include, self.policy.snapshot_exclude, name)
        return known

    def paths_of(self, site: Site, guid: str) -> tuple[str, ...]:
        """The paths of a site's datasets that have a snapshot, in order."""
        known = self.paths.get(site.id)
        if known is None:
            known = self.paths[site.id] = {}
            for path in sorted(site.histories):
                places = site.histories[path].places
                several = {held: (*known[held], path) for held in known.keys() & places.keys()}
                known.update(dict.fromkeys(places, (path,)) | several)
        return known.get(guid, ())

    def senders_of(self, path: str) -> tuple[Site, ...]:
        """Who may send a dataset: seen lately first, then those with a transfer to spare, then as configured.

        Every member that lacks something asks, so each path's are sought once.
        """
        known = self.senders.get(path)
        if known is None:
            able = [site for site in self.sites if path in site.histories and not site.barred(path)]
            able.sort(key=lambda site: (not site.seen, site.busy >= self.policy.max_transfers, site.place))
            known = self.senders[path] = tuple(able)
        return known

    def has_pruned(self, site: Site, dataset: str, guid: str) -> bool:
        """Whether a site once reported a snapshot of a dataset, and later did not."""
        known = self.pruned.get((site.id, dataset))
        if known is None:
            known = self.pruned[site.id, dataset] = frozenset(self.work.gone.guids(site.id, dataset))
        return guid in known

    def is_due(self, snapshot: Snapshot) -> bool:
        """Whether a snapshot is old enough to be sent."""
        if not self.policy.min_age_s:
            return True
        return snapshot.creation is not None and snapshot.creation <= self.now - self.policy.min_age_s

    def wants(self, snapshot: Snapshot) -> bool:
        """Whether a snapshot of the leading history belongs on every member now."""
        return is_certain(snapshot) and self.selects_name(snapshot.name) and self.is_due(snapshot)

    def lease_on(self, site: Site, path: str) -> Lease | None:
        """What is being done to a path on a site now; a rename of what lies above is done to it, too."""
        dataset = site.dataset(path)
        renames = (lease for lease in self.leases.values() if moves(lease, site.id, dataset))
        return self.leases.get((site.id, dataset)) or next(renames, None)

    def is_held_up(self, step: Step) -> bool:
        """Whether a step can't start before another has ended."""
        return any(stands_in_the_way(lease, step) for lease in self.leases.values())

    def is_paused(self, path: str) -> bool:
        """Whether the group leaves this dataset alone for now."""
        return any(matches(glob, path) for glob in self.policy.paused_datasets)

    @property
    def uncredited(self) -> Work:
        """The work, without the finished steps that the members already show."""
        return replace(self.work, credits=())

    def is_hub(self, system_id: str) -> bool:
        """Whether a system is the one that all others follow."""
        return self.policy.directional and system_id == self.policy.hub

    def site(self, system_id: str | None) -> Site | None:
        """The site of a system, if it is a member."""
        return next((site for site in self.sites if site.id == system_id), None)


def scene_of(policy: Policy, members: Sequence[Member], work: Work, now: float) -> Scene:
    """The group at this moment, with what finished since the last inventories."""
    places = {system_id: place for place, system_id in enumerate(policy.order)}
    ordered = sorted(members, key=lambda m: (places.get(m.system_id, len(places)), m.system_id))
    current = apply_credits(ordered, work)
    leases = sorted((lease for lease in work.leases if lease.expires_at > now), key=lambda lease: lease.action_id)
    busy = Counter(system for lease in leases for system in {lease.source, lease.target} if system)
    selected: dict[str, bool] = {}
    return Scene(
        policy,
        tuple(_site(policy, m, place, busy[m.system_id], now, selected) for place, m in enumerate(current)),
        {member.system_id: member for member in current},
        work,
        now,
        {(lease.target, lease.target_dataset): lease for lease in leases},
        frozenset((guard.system_id, guard.dataset) for guard in work.guards),
        {},
        {},
        {},
        {},
    )


def _site(policy: Policy, member: Member, place: int, busy: int, now: float, selected: dict[str, bool]) -> Site:
    histories: dict[str, History] = {}
    for name, replica in (*member.absent.items(), *member.replicas.items()):
        path = path_of(member, name)
        if path is None or is_internal(name) or is_set_aside(name):
            continue
        if path not in selected:
            selected[path] = selects(policy.include, policy.exclude, path)
        if selected[path]:
            histories[path] = history(replica)
    return Site(
        member,
        place,
        histories,
        frozenset(part for name in member.replicas for part in (*ancestors(name), name)),
        frozenset(pool_of(name) for name in member.replicas),
        member.system_id in policy.paused_systems,
        _unknown(policy, member, now),
        busy,
        is_seen(policy, member, now),
    )


def is_seen(policy: Policy, member: Member, now: float) -> bool:
    """Whether a member was heard from lately."""
    return member.last_seen_at is not None and member.last_seen_at >= now - policy.heartbeat_timeout_s


def is_fresh(policy: Policy, member: Member, now: float) -> bool:
    """Whether a member's inventory was reported or confirmed lately enough to be acted on."""
    moments = [moment for moment in (member.reported_at, member.confirmed_at) if moment is not None]
    return bool(moments) and max(moments) >= now - policy.stale_after_s


def _unknown(policy: Policy, member: Member, now: float) -> str | None:
    """Why what a member holds is not known well enough to plan by; None when it is."""
    if member.reported_at is None:
        return f"{member.hostname} has not reported its datasets yet"
    if not is_fresh(policy, member, now):
        silent = f"its agent neither reported nor confirmed it for more than {span(policy.stale_after_s)}"
        return f"the inventory of {member.hostname} is stale: {silent}"
    return None
