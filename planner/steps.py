"""What steps have in common: the id by which everybody knows one."""

import uuid

from planner.model import StepType

_STEPS = uuid.UUID("5b0c6c1e-3d43-5a64-9a3c-8b8f3f6f2a11")


def action_id(
    group_id: str, path: str, target: str, type: StepType, base_guid: str | None, end_guid: str | None
) -> str:
    """A UUID that is the same for the same group, path, target, type, base and end, whoever asks and when."""
    facts = (group_id, path, target, type, base_guid or "-", end_guid or "-")
    return str(uuid.uuid5(_STEPS, "\n".join(facts)))
