"""The planner: from what is known of a sync group to its next steps.

Pure: values in, values out; no clock, no I/O, no randomness. It imports the standard library and itself only.
"""

from planner.plan import plan_group

__all__ = ["plan_group"]
