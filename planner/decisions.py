"""Decisions about conflicts: which are still to be carried out, and what they hold up meanwhile."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from planner.admission import admitted, failure_of
from planner.cases import may_touch
from planner.claims import Claim, claim_on, is_begun
from planner.model import Conflict, Decision, Member, Option, Policy, Skip, Step, Work
from planner.paths import dataset_of, is_below, is_set_aside
from planner.progress import moving
from planner.resolutions import options, resolution_steps
from planner.sites import Scene, Site, scene_of
from planner.transfers import no_room, room_for

Status = Literal["open", "pending", "ignored"]


@dataclass(frozen=True, slots=True)
class Errand:
    """A decision that is not carried out yet, and what is left of it."""

    decision: Decision
    steps: tuple[Step, ...]
    skips: tuple[Skip, ...]
    changing: frozenset[tuple[str, str]]  # the system and path of each dataset that its steps change
    moving: frozenset[tuple[str, str]]  # of each that goes elsewhere or comes anew, with all that lies below it
    replaces_hub: bool  # whose history all others follow

    @property
    def binding(self) -> bool:
        """False: its evidence changed before anything was done, or it can't be done any more: the conflict is open."""
        return bool(self.changing or self.moving)

    def holds_up(self, path: str, site: Site) -> bool:
        """Whether nothing else may go into a path on a site: a losing dataset, or one that moves along with it."""
        if self.replaces_hub and self.binding and path == self.decision.path:
            return True
        return (site.id, path) in self.changing or any(
            is_below(path, above) for system, above in self.moving if self.replaces_hub or system == site.id
        )


def errands_of(scene: Scene, decisions: Iterable[Decision], claims: Sequence[Claim] = ()) -> tuple[Errand, ...]:
    """What is left to do for every decision, by path; nothing for one that is carried out.

    Of two about one dataset, the second waits where the first has steps: they change what it was judged by.
    """
    errands: list[Errand] = []
    members = list(scene.members.values())

    def turn(decision: Decision) -> tuple[list[str], bool, str]:
        begun = any(is_begun(scene.members, loser) for loser in decision.losers)
        return decision.path.split("/"), not begun, decision.conflict_id

    for decision in sorted(decisions, key=turn):
        if decision.strategy == "ignore":
            continue
        steps, skips = resolution_steps(decision, scene.policy, members, scene.uncredited, scene.now)
        if claimed := _claimed(scene, decision, claims):
            steps, skips = (), claimed
        waiting = _second(scene, decision, steps, errands)
        steps = tuple(step for step in steps if all(step.target != skip.target for skip in waiting))
        skips = (*skips, *waiting)
        if steps or skips:
            allowed, refused = admitted(scene, steps, partial(_hindrance, decision, steps))
            changing = frozenset((step.target, step.path) for step in steps)
            moved = moving(decision, steps, scene.policy, members, scene.now)
            replaces_hub = any(scene.is_hub(loser.system_id) for loser in decision.losers)
            errands.append(Errand(decision, allowed, (*skips, *refused), changing, moved, replaces_hub))
    return tuple(errands)


def _second(scene: Scene, decision: Decision, steps: Sequence[Step], errands: Sequence[Errand]) -> tuple[Skip, ...]:
    """The losers that wait for another decision about the dataset: all of them where that changes who is followed."""
    others = [one for one in errands if one.decision.path == decision.path and one.changing]
    busy = {loser.system_id for one in others for loser in one.decision.losers}
    if any(scene.is_hub(loser.system_id) for loser in decision.losers) or any(one.replaces_hub for one in others):
        busy.add(decision.winner or "")
    targets = {step.target for step in steps}
    return tuple(
        Skip(
            decision.path,
            loser.dataset,
            loser.system_id,
            f"another decision about {loser.dataset} is carried out first",
        )
        for loser in decision.losers
        if others and loser.system_id in targets and (loser.system_id in busy or decision.winner in busy)
    )


def _claimed(scene: Scene, decision: Decision, claims: Sequence[Claim]) -> tuple[Skip, ...]:
    """All losers, while another group changes what one of them or the winner has, if it began or comes first."""
    if any(is_begun(scene.members, loser) for loser in decision.losers):
        return ()
    first = [claim for claim in claims if claim.begun or claim.group_id < scene.policy.group_id]
    claim = claim_on(scene.members, decision.path, decision.winner, decision.losers, first)
    if claim is None:
        return ()
    reason = f"what the group {claim.group} decided about {claim.dataset} is carried out first"
    losers = (loser for loser in decision.losers if loser.system_id in scene.members)
    return tuple(Skip(decision.path, loser.dataset, loser.system_id, reason) for loser in losers)


def _hindrance(decision: Decision, steps: Sequence[Step], scene: Scene, step: Step) -> str | None:
    """Why a step of a resolution, one of several, may not be done now."""
    if not scene.policy.enabled:
        return f"the group {scene.policy.name} is disabled"
    if scene.is_held_up(step):
        return f"another step is changing {step.target_dataset} now"
    if scene.is_paused(step.path) or (
        is_set_aside(step.new_name or "") and any(scene.is_paused(one.path) for one in steps)
    ):
        return f"{step.target_dataset} is paused in this group"
    filling = _filling(steps, step)
    if filling.source is not None and not scene.policy.window_open:
        return f"the transfer window of the group {scene.policy.name} is closed"
    # nothing goes back while it can't go on from there
    for system_id in (filling.source, step.target, decision.winner if step.type == "rollback" else None):
        site = scene.site(system_id)
        barred = site.barred(step.path) if site is not None else None
        if barred is not None:
            return barred
    return failure_of(scene, step) or failure_of(scene, filling) or _lack_of_room(steps, scene, step, filling)


def _filling(steps: Sequence[Step], step: Step) -> Step:
    """The step itself; of one that sets a dataset aside the stream that takes its place: nothing is set aside before
    that may start."""
    if step.type == "rename" and is_set_aside(step.new_name or ""):
        return next((one for one in steps if one.source and one.target == step.target), step)
    return step


def _lack_of_room(steps: Sequence[Step], scene: Scene, step: Step, filling: Step) -> str | None:
    """Why the target can't hold what comes with a step, and all before it."""
    site = scene.site(step.target)
    if site is None:
        return None
    room = room_for(site, step.target_dataset)
    if filling.base is None or filling.origin is not None:  # the quota of what is set aside goes along with it
        above = room_for(site, step.target_dataset.rpartition("/")[0])
        room = above if above is not None else room
    if room is None or filling.end is None or filling.source_dataset is None:
        return None
    before = steps[: steps.index(filling) + 1]
    needed = sum(one.estimated_size_bytes or 0 for one in before if one.target == step.target)
    return no_room(site, filling.source_dataset, filling.end) if needed > room else None


def claims_of(scene: Scene) -> tuple[Claim, ...]:
    """What other groups have decided about their losers, and are carrying out."""
    claims: list[Claim] = []
    for each in scene.work.neighbours_in_order:
        if each.decisions:
            work = replace(scene.work, decisions=each.decisions, neighbours=())
            theirs = scene_of(each.policy, each.members, work, scene.now)
            for errand in errands_of(theirs, each.decisions):
                begun = {one.system_id for one in errand.decision.losers if is_begun(theirs.members, one)}
                able = {step.target for step in errand.steps}
                for below, places in ((True, errand.moving), (False, errand.changing)):
                    for system, path in sorted(places):
                        if system in begun or system in able:  # nobody waits for what may not begin
                            name, dataset = each.policy.name, dataset_of(theirs.members[system], path)
                            claims.append(Claim(each.policy.group_id, name, system, dataset, below, system in begun))
    return tuple(claims)


def hold(errands: Iterable[Errand], claims: Iterable[Claim], path: str, site: Site) -> str | None:
    """Why nothing else may go into a path on a member while a decision is carried out, in whichever group."""
    for claim in claims:
        if claim.covers(site.id, site.dataset(path)):
            return f"{site.dataset(path)} waits until what the group {claim.group} decided about it has been done"
    return _HELD.format(site.dataset(path)) if any(errand.holds_up(path, site) for errand in errands) else None


_HELD = "{} waits until what was decided about its conflict has been done"


def moved(errands: Iterable[Errand], claims: Iterable[Claim], path: str, hub: Site) -> str | None:
    """Why what the hub has, or has not, under a path is not its history: that is half way to its name."""
    elsewhere = hold((), (claim for claim in claims if claim.begun), path, hub)
    if elsewhere is not None or path in hub.histories:
        return elsewhere
    along = (errand.holds_up(path, hub) for errand in errands if errand.decision.path != path)
    return _HELD.format(hub.dataset(path)) if any(along) else None


def in_turn(way: Option, path: str, policy: Policy, members: Sequence[Member], work: Work, now: float) -> Option:
    """A way out of a conflict about a path; `refused` says also why it can't be taken yet."""
    scene = scene_of(policy, members, work, now)
    return way if way.refused else _unless_claimed(scene, path, way, claims_of(scene))


def with_options(
    scene: Scene, conflicts: Iterable[Conflict], errands: Sequence[Errand], claims: Sequence[Claim]
) -> tuple[Conflict, ...]:
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
            found = options(conflict, scene.policy, members, scene.uncredited, scene.now)
            ways = tuple(_unless_claimed(scene, conflict.path, way, claims) for way in found)
        decided = pending.get(conflict.path)
        status: Status = "pending" if decided is not None and conflict.id == decided.conflict_id else "open"
        shown.append(replace(conflict, status="ignored" if conflict.id in ignored else status, options=ways))
    return tuple(shown)


def _unless_claimed(scene: Scene, path: str, way: Option, claims: Sequence[Claim]) -> Option:
    """A way out; refused while another group changes what it was judged by."""
    claim = claim_on(scene.members, path, way.winner, way.losers, claims)
    if claim is None:
        return way
    return replace(way, refused=f"what the group {claim.group} decided about {claim.dataset} is carried out first")


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
            decided.append(Decision(conflict.id, conflict.path, strategy, way.winner, False, way.losers, True))
    return tuple(decided)


def _is_harmless(scene: Scene, option: Option) -> bool:
    touched = (may_touch(scene.policy, scene.members[loser.system_id], loser) for loser in option.losers)
    return bool(option.losers) and all(touched)
