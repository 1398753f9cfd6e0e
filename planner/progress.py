"""How far a decided conflict has come: the steps that are left, judged by what is there now, and what they move."""

from collections.abc import Iterator, Mapping, Sequence
from shlex import quote

from planner.cases import Case, Remedy, may_touch
from planner.credits import apply_credits
from planner.encryption import relation
from planner.globs import selects
from planner.histories import Ahead, Diverged, Unrelated, history, newest_common
from planner.model import Decision, Loser, Member, Policy, Replica, Skip, Step, Work
from planner.paths import dataset_of, is_below, is_set_aside, pool_imported
from planner.remedies import discard, keep


def resolution_steps(
    decision: Decision, policy: Policy, members: Sequence[Member], work: Work, now: float
) -> tuple[tuple[Step, ...], tuple[Skip, ...]]:
    """What is left to do for a decision, in order, and what can't be done now and why. Both empty: it is resolved.

    With the work's credits, each step goes as it is done, and the others stay as they are.
    """
    return _what_is_left(decision, policy, apply_credits(members, work), work, now)


def _what_is_left(
    decision: Decision, policy: Policy, members: Sequence[Member], work: Work, now: float
) -> tuple[tuple[Step, ...], tuple[Skip, ...]]:
    by_id = {member.system_id: member for member in members}
    winner = by_id.get(decision.winner or "")
    if winner is None:
        return (), tuple(_abandoned(decision, by_id))
    places = {system: place for place, system in enumerate(policy.order)}
    name = dataset_of(winner, decision.path)
    remedies: list[Remedy] = []
    for case in sorted(
        _cases(decision, policy, by_id, winner, now),
        key=lambda case: (places.get(case.target.system_id, len(places)), case.target.system_id),
    ):
        if decision.automatic and not may_touch(policy, case.target, case.loser):
            continue
        is_there = name in winner.replicas
        reason = _waits(case, members, work) if is_there else _lost_by(winner, name, case.loser)
        remedy = Remedy(case).refuse(reason) if reason else _remedy(decision, case)
        outdated = _outdated(decision, case, by_id) if remedy.steps and case.aside is None else None
        remedies.append(Remedy(case).refuse(outdated) if outdated else remedy)
    void = next((remedy.reason for remedy in remedies if remedy.is_void), None)
    for remedy in (each for each in remedies if void is not None and each.case.aside is None):
        # with one loser judged wrongly, none goes back: what another has lost would come again from the first
        remedy.reason = remedy.reason or (void if remedy.steps else None)
        remedy.steps.clear()
    return tuple(step for remedy in remedies for step in remedy.steps), tuple(
        Skip(decision.path, remedy.case.loser.dataset, remedy.case.target.system_id, remedy.reason)
        for remedy in remedies
        if remedy.reason is not None
    )


def _cases(decision: Decision, policy: Policy, by_id: Mapping[str, Member], winner: Member, now: float) -> list[Case]:
    """The decision's losers that are members, each with the history that takes its place."""
    name = dataset_of(winner, decision.path)
    source = history(winner.replicas.get(name, Replica(name)))
    there = ((loser, by_id.get(loser.system_id)) for loser in decision.losers)
    return [Case(policy, decision.path, loser, target, winner, source, now) for loser, target in there if target]


def _remedy(decision: Decision, case: Case) -> Remedy:
    return discard(case) if decision.discard else keep(case)


def _abandoned(decision: Decision, by_id: Mapping[str, Member]) -> Iterator[Skip]:
    """What was set aside for the history of a system that has left the group since."""
    for loser in decision.losers:
        target = by_id.get(loser.system_id)
        if target is None or loser.aside not in target.replicas:
            continue
        here, aside, name = target.replicas.get(loser.dataset), quote(loser.aside), quote(loser.dataset)
        is_partial = here is not None and bool(here.resume_token) and not here.snapshots
        way_out = None
        if here is None or is_partial:
            drop = f"zfs receive -A {name}, then " if is_partial else ""
            way_out = f"take back what was set aside: {drop}zfs rename {aside} {name}"
        elif (here.origin or "").startswith(f"{loser.aside}@"):
            way_out = f"end it: zfs promote {name}, and rename back what lies below {loser.aside}"
        elif _nameless(target, loser):
            way_out = f"rename back what lies below {loser.aside}"
        if way_out is not None:
            left = f"the system whose history was to take the place of {loser.dataset} is no longer in the group"
            yield Skip(decision.path, loser.dataset, loser.system_id, f"{left}: add it again, or {way_out}")


def _nameless(target: Member, loser: Loser) -> list[str]:
    """What moved along with a loser and has not got its name back, as it is called below it."""
    above = f"{loser.aside}/"
    below = {name[len(above) :].partition("/")[0] for name in target.replicas if name.startswith(above)}
    return sorted(name for name in below if f"{loser.dataset}/{name}" not in target.replicas and not is_set_aside(name))


def is_left_behind(decision: Decision, policy: Policy, members: Sequence[Member], now: float) -> bool:
    """Whether nothing was done for any loser, and nothing will be, since the group has changed."""
    by_id = {member.system_id: member for member in members}
    winner = by_id.get(decision.winner or "")
    if winner is None:
        return False
    remedies = [_remedy(decision, case) for case in _cases(decision, policy, by_id, winner, now)]
    cases = [remedy.case for remedy in remedies if remedy.steps or remedy.reason is not None]
    return bool(cases) and all(case.aside is None and _outdated(decision, case, by_id) for case in cases)


def _outdated(decision: Decision, case: Case, by_id: Mapping[str, Member]) -> str | None:
    """Why a decision that nothing was done for yet no longer holds for a loser: the group has changed since."""
    policy, dataset = case.policy, case.loser.dataset
    if dataset_of(case.target, case.path) != dataset:
        return f"{case.target.hostname} has another root than when it was decided about {dataset}: decide again"
    if not selects(policy.include, policy.exclude, case.path):
        return f"the group {policy.name} no longer chooses {dataset}, about which something was decided"
    hub = by_id.get(policy.hub or "")
    leads = hub.replicas.get(dataset_of(hub, case.path)) if hub is not None else None
    if hub is None or leads is None or hub.system_id in {decision.winner, *(one.system_id for one in decision.losers)}:
        return None
    one, other = case.relation_of(leads), relation(policy, history(leads), case.source)
    if isinstance(one, Diverged | Ahead | Unrelated) and isinstance(other, Diverged | Ahead | Unrelated):
        return f"{hub.hostname}, the hub, has another history of {dataset} than {case.winner.hostname}: decide again"
    return None


def _lost_by(winner: Member, name: str, loser: Loser) -> str:
    """That the winner has nothing to put in a loser's place."""
    if not pool_imported(winner, name):
        return f"the pool of {name} is not in the inventory of {winner.hostname}"
    why = f"{winner.hostname} no longer has {name}, so what was decided about {loser.dataset} can't be done"
    return f"{why}: decide again, or rename back what was set aside"


def _waits(case: Case, members: Sequence[Member], work: Work) -> str | None:
    """Why nothing can be done for a loser yet."""
    if not pool_imported(case.target, case.loser.dataset):
        return f"the pool of {case.loser.dataset} is not in the inventory of {case.target.hostname}"
    begun = case.aside is not None
    for other in (each for each in work.decisions if each.path != case.path):
        has_begun = any(
            one.system_id == case.target.system_id and one.aside in case.target.replicas for one in other.losers
        )
        if is_below(case.path, other.path) and (has_begun or not begun):
            steps, _ = _what_is_left(other, case.policy, members, work, case.now)
            closed = moving(other, steps, case.policy, members, case.now)
            if any(system == case.target.system_id and is_below(case.path, path) for system, path in closed):
                return f"the conflict of {other.path or 'the root'}, which lies above it, is resolved first"
        elif is_below(other.path, case.path) and has_begun and not begun:
            steps, _ = _what_is_left(other, case.policy, members, work, case.now)
            if any(step.target == case.target.system_id for step in steps):
                return f"the conflict of {other.path}, which lies below it, is resolved first"
    return None


def moving(
    decision: Decision, steps: Sequence[Step], policy: Policy, members: Sequence[Member], now: float
) -> frozenset[tuple[str, str]]:
    """The system and path of each dataset that a decision takes elsewhere or keeps a place for: all below waits too.

    A place is kept while the winner may still fill it: not for a history that the winner has lost, too.
    """
    by_id = {member.system_id: member for member in members}
    found = {(step.target, step.path) for step in steps if step.type == "rename"}
    filled = {step.target for step in steps if step.path == decision.path}
    winner = by_id.get(decision.winner or "")
    if winner is None:
        found |= {(skip.target, skip.path) for skip in _abandoned(decision, by_id)}
    for case in _cases(decision, policy, by_id, winner, now) if winner is not None else ():
        if case.aside is not None:
            system = case.target.system_id
            found |= {(system, path) for path in _open_places(case, system in filled)}
    return frozenset(found)


def _open_places(case: Case, filled: bool) -> set[str]:
    """The paths of what was set aside that have nothing in their place yet, and will get it."""
    here, old, lead = case.here, case.aside, case.source.replica.dataset
    assert old is not None, "it was set aside"
    if here is None or (here.resume_token and not here.snapshots):
        waits = filled or case.is_early or not pool_imported(case.winner, lead)
        return {case.path} if waits or newest_common(case.source, history(old)) else set()
    if here.snapshots or lead not in case.winner.replicas:
        return set()
    left = _nameless(case.target, case.loser)  # only a person can put this right; what went along waits for its name
    return {f"{case.path}/{name}" if case.path else name for name in left}
