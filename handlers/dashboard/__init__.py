"""The dashboard: pages rendered here, from what the API's own handlers gather and the planner decides."""
