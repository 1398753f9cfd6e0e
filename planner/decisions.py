"""Decisions about conflicts: which are still to be carried out, and what they hold up meanwhile."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from planner.admission import admitted, failure_of
from planner.model import Conflict, Decision, Member, Option, Skip, Step
from planner.resolutions import options, resolution_steps
from planner.sites import Scene, Site, scene_of

Status = Literal["open", "pending", "ignored"]


@dataclass(frozen=True, slots=True)
class Errand:
    """A decision that is not carried out yet, and what is left of it."""

    decision: Decision
    steps: tuple[Step, ...]
    skips: tuple[Skip, ...]
    binding: bool  # False: its evidence changed before anything was done, so the conflict is open again
    replaces_hub: bool  # whose history all others follow

    def holds_up(self, path: str, site: Site) -> bool:
        """Whether nothing else may go into a path on a site: a losing dataset, or one below it."""
        if not self.binding:
            return False
        below = self.decision.path == "" or f"{path}/".startswith(f"{self.decision.path}/")
        return below and (self.replaces_hub or any(loser.system_id == site.id for loser in self.decision.losers))


def errands_of(scene: Scene, decisions: Iterable[Decision]) -> tuple[Errand, ...]:
    """What is left to do for every decision, by path; nothing for one that is carried out."""
    errands: list[Errand] = []
    members = list(scene.members.values())
    for decision in sorted(decisions, key=lambda decision: (decision.path.split("/"), decision.conflict_id)):
        if decision.strategy == "ignore":
            continue
        steps, skips = resolution_steps(decision, scene.policy, members, scene.uncredited, scene.now)
        if steps or skips:
            allowed, refused = admitted(scene, steps, _hindrance)
            binding = bool(steps) or _has_begun(scene, decision)
            replaces_hub = any(scene.is_hub(loser.system_id) for loser in decision.losers)
            errands.append(Errand(decision, allowed, (*skips, *refused), binding, replaces_hub))
    return tuple(errands)


def _has_begun(scene: Scene, decision: Decision) -> bool:
    """Whether one of the losers has been set aside already."""
    return any(
        loser.aside in member.replicas
        for loser in decision.losers
        for member in [scene.members.get(loser.system_id, Member("", ""))]
    )


def _hindrance(scene: Scene, step: Step) -> str | None:
    """Why a step of a resolution may not be done now."""
    if not scene.policy.enabled:
        return f"the group {scene.policy.name} is disabled"
    if scene.is_held_up(step):
        return f"another step is changing {step.target_dataset} now"
    if scene.is_paused(step.path):
        return f"{step.target_dataset} is paused in this group"
    if step.source is not None and not scene.policy.window_open:
        return "the group's transfer window is closed"
    for system_id in (step.source, step.target):
        site = scene.site(system_id)
        barred = site.barred(step.path) if site is not None else None
        if barred is not None:
            return barred
    return failure_of(scene, step)


@dataclass(frozen=True, slots=True)
class Claim:
    """A dataset that another group is putting right: it, or its name while it is set aside, is that group's alone."""

    group: str
    system_id: str
    dataset: str


def claims_of(scene: Scene) -> tuple[Claim, ...]:
    """What other groups have decided about their losers and not carried out yet."""
    claims: list[Claim] = []
    for each in sorted(scene.work.neighbours, key=lambda each: each.policy.group_id):
        if each.decisions:
            work = replace(scene.work, decisions=each.decisions, neighbours=())
            errands = errands_of(scene_of(each.policy, each.members, work, scene.now), each.decisions)
            losers = [loser for errand in errands if errand.binding for loser in errand.decision.losers]
            claims += [Claim(each.policy.name, loser.system_id, loser.dataset) for loser in losers]
    return tuple(claims)


def hold(errands: Iterable[Errand], claims: Iterable[Claim], path: str, site: Site) -> str | None:
    """Why nothing else may go into a path on a member while a decision is carried out, in whichever group."""
    for claim in claims:
        if claim.system_id == site.id and f"{site.dataset(path)}/".startswith(f"{claim.dataset}/"):
            return f"{site.dataset(path)} waits until what the group {claim.group} decided about it has been done"
    if any(errand.holds_up(path, site) for errand in errands):
        return f"{site.dataset(path)} waits until what was decided about its conflict has been done"
    return None


def with_options(scene: Scene, conflicts: Iterable[Conflict], errands: Sequence[Errand]) -> tuple[Conflict, ...]:
    """The conflicts with their ways out and how far each has come.

    While a decision is carried out, what its steps bring about on its losers is no conflict of its own.
    """
    members = list(scene.members.values())
    ignored = {decision.conflict_id for decision in scene.work.decisions if decision.strategy == "ignore"}
    pending = {errand.decision.path: errand.decision for errand in errands if errand.binding}
    shown: list[Conflict] = []
    for conflict in conflicts:
        if conflict.type == "missing":
            ways: tuple[Option, ...] = ()
        elif _is_brought_about(conflict, pending.get(conflict.path)):
            continue
        else:
            ways = options(conflict, scene.policy, members, scene.uncredited, scene.now)
        decided = pending.get(conflict.path)
        status: Status = "pending" if decided is not None and conflict.id == decided.conflict_id else "open"
        shown.append(replace(conflict, status="ignored" if conflict.id in ignored else status, options=ways))
    return tuple(shown)


def _is_brought_about(conflict: Conflict, decision: Decision | None) -> bool:
    """Whether nobody but the decision's own losers is at odds with its winner here."""
    if decision is None or conflict.id == decision.conflict_id:
        return False
    at_odds = {
        side.system_id for side in conflict.sides if side.newest_common is None or side.only_here or side.written_bytes
    }
    return at_odds <= {decision.winner, *(loser.system_id for loser in decision.losers)}


def decide(scene: Scene, conflicts: Iterable[Conflict]) -> tuple[Decision, ...]:
    """What the group's on_conflict decides by itself about conflicts that nobody decided.

    It never touches the hub, nor a replica that is not readonly: somebody may be working there. Of two conflicts
    about one dataset, the second waits until the first is settled.
    """
    strategy = scene.policy.on_conflict
    if strategy == "manual" or not scene.policy.enabled:
        return ()
    decided: list[Decision] = []
    for conflict in conflicts:
        if conflict.status != "open" or conflict.type == "missing":
            continue
        way = next((option for option in conflict.options if option.strategy == strategy), None)
        if way is None or way.refused is not None:
            continue
        waits = any(earlier.path == conflict.path for earlier in decided)
        if strategy == "ignore" or (not waits and _is_harmless(scene, way)):
            decided.append(Decision(conflict.id, conflict.path, strategy, way.winner, False, way.losers))
    return tuple(decided)


def _is_harmless(scene: Scene, option: Option) -> bool:
    for loser in option.losers:
        replica = scene.members[loser.system_id].replicas.get(loser.dataset)
        if scene.is_hub(loser.system_id) or replica is None or replica.readonly is not True:
            return False
    return bool(option.losers)
