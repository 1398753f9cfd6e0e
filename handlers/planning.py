"""Plans, made anew only when some fact has changed, or when time alone may have changed something."""

from collections.abc import Sequence
from dataclasses import dataclass

from handlers.memory import Memory
from planner import plan_group
from planner.model import Member, Plan, Policy, Work
from planner.timing import Facts, aged, facts_of
from store import Store

GROUPS = 256  # of which this process remembers the last plan


@dataclass(frozen=True, slots=True)
class _Made:
    """A plan, and what it was made of."""

    facts: Facts
    at: float
    plan: Plan


_memory: Memory[_Made] = Memory(GROUPS)


def plan_for(store: Store, policy: Policy, members: Sequence[Member], work: Work, now: float) -> Plan:
    """What `plan_group` says of these facts."""
    place = _memory.place(store, policy.group_id)
    facts = facts_of(policy, members, work, now)
    made = place.kept
    if made is None or not made.at <= now < made.plan.until or made.facts != facts:
        made = place.kept = _Made(facts, now, plan_group(policy, members, work, now))
    return aged(made.plan, made.at, now)
