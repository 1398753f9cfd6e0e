"""One losing dataset of a decided conflict, and the steps that put it right, as they are collected."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from planner.encryption import Form, relation
from planner.globs import selects
from planner.histories import History, Relation, history, is_certain
from planner.model import Loser, Member, Policy, Replica, Snapshot, Step, StepType
from planner.names import unreceivable
from planner.steps import action_id
from planner.streams import Stream


@dataclass(frozen=True, slots=True)
class Case:
    """One losing dataset, and the history that takes its place."""

    policy: Policy
    path: str
    loser: Loser
    target: Member
    winner: Member
    source: History
    now: float

    @property
    def here(self) -> Replica | None:
        """The dataset of the group's name."""
        return self.target.replicas.get(self.loser.dataset)

    @property
    def aside(self) -> Replica | None:
        """The one that was set aside."""
        return self.target.replicas.get(self.loser.aside)

    @property
    def must_lead(self) -> bool:
        """Whether the loser is the hub: it gets all of the winner's history before the others follow it again."""
        return self.target.system_id == self.policy.hub

    def relation_of(self, replica: Replica) -> Relation:
        """How a replica stands to the history that is to take its place."""
        return relation(self.policy, self.source, history(replica))

    def wanted(self, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
        """Those of the winner's snapshots that the group chooses, and that are old enough unless the loser leads."""
        include, exclude = self.policy.snapshot_include, self.policy.snapshot_exclude
        return [s for s in snapshots if is_certain(s) and selects(include, exclude, s.name) and self._is_due(s)]

    def receivable(self, snapshots: Sequence[Snapshot], taken: Collection[str]) -> list[Snapshot]:
        """Those of the wanted whose names the loser can take."""
        dataset, host = self.loser.dataset, self.target.hostname
        return [s for s in self.wanted(snapshots) if unreceivable(dataset, host, s.name, taken) is None]

    def _is_due(self, snapshot: Snapshot) -> bool:
        latest = self.now - self.policy.min_age_s
        is_old = snapshot.creation is not None and snapshot.creation <= latest
        return not self.policy.min_age_s or self.must_lead or is_old

    @property
    def is_early(self) -> bool:
        """Whether some of what the winner has is still too young to be sent."""
        return not all(self._is_due(snapshot) for snapshot in self.source.snapshots)


@dataclass(slots=True)
class Remedy:
    """Steps of which each waits for the one before it, and why they are not all."""

    case: Case
    steps: list[Step] = field(default_factory=list)
    reason: str | None = None
    is_void: bool = False  # what was decided on is there no more

    def refuse(self, reason: str, is_void: bool = False) -> "Remedy":
        self.reason, self.is_void = reason, is_void
        return self

    def add(self, type: StepType, key: tuple[str | None, str | None], reason: str, **fields: Any) -> None:
        """A step on the target; `key` tells it from others of its type on the same dataset."""
        case = self.case
        fields = {"path": case.path, "target_dataset": case.loser.dataset, "executor": case.target.system_id, **fields}
        self.steps.append(
            Step(
                action_id=action_id(case.policy.group_id, fields["path"], case.target.system_id, type, *key),
                type=type,
                target=case.target.system_id,
                reason=reason,
                depends_on=(self.steps[-1].action_id,) if self.steps else (),
                **fields,
            )
        )

    def transfer(self, form: Form, stream: Stream, origin: str | None = None) -> None:
        """A stream of the winner's."""
        case, base = self.case, stream.base
        new = base is None or origin is not None
        self.add(
            "sync" if base else "create",
            (base.guid if base else None, stream.end.guid),
            f"{case.winner.hostname} sends its history up to {stream.end.name}, which takes its place as decided",
            executor=case.winner.system_id if case.policy.transfer == "push" else case.target.system_id,
            source=case.winner.system_id,
            source_dataset=case.source.replica.dataset,
            kind=case.source.replica.kind,
            end=stream.end,
            base=base,
            intermediates=stream.intermediates,
            delivers=stream.delivers,
            raw=form.raw,
            embedded=form.embedded and not form.raw,
            origin=origin,
            expected_guids=(base.guid,) if base else (),
            properties=properties_of(case) if new else (),
            estimated_size_bytes=stream.size_bytes,
        )


def properties_of(case: Case) -> tuple[tuple[str, str], ...]:
    """Those of a dataset that takes another's place: where people wrote to the old one, they will to the new one."""
    old = case.aside or case.here
    in_use = (("readonly", "off"),) if old is not None and old.readonly is False else ()
    return (*in_use, *case.policy.properties)


def may_touch(policy: Policy, target: Member, loser: Loser) -> bool:
    """Whether a loser may give way though nobody but the group's on_conflict decided that: never the hub, nor where
    somebody may be working. What is set aside already is not left half way."""
    held = {**target.absent, **target.replicas}
    replica = held.get(loser.dataset)
    in_use = replica is None or replica.readonly is not True
    is_hub = policy.directional and target.system_id == policy.hub
    return loser.aside in held or not (is_hub or in_use)
