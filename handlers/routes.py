"""ENDPOINTS: the whole API on one page."""

import bottle

from handlers import actions, conflicts, events, health, inventories, singles, snapshots, sync, sync_groups, systems
from handlers import bodies as b
from handlers.binding import build_app
from handlers.request import (
    ADMIN,
    ANYONE,
    ENROLL,
    MEMBERS,
    MEMBERS_OR_VIEWER,
    OWN,
    OWN_OR_VIEWER,
    SELF,
    SELF_OR_VIEWER,
    VIEWER,
    Endpoint,
    Witness,
)

ENDPOINTS = (  # method, path, handler, callers, body, query
    Endpoint("GET", "/health", health.show_health, ANYONE),
    Endpoint("GET", "/health/ready", health.show_readiness, ANYONE),
    Endpoint("GET", "/health/live", health.show_liveness, ANYONE),
    Endpoint("GET", "/public-key", health.show_public_key, ANYONE),
    Endpoint("POST", "/systems/register", systems.register_system, ENROLL, b.SystemBody),
    Endpoint("GET", "/systems", systems.list_systems, VIEWER, query=b.Page),
    Endpoint("GET", "/systems/health", systems.list_system_health, OWN_OR_VIEWER),
    Endpoint("GET", "/systems/<system_id>", systems.show_system, SELF_OR_VIEWER),
    Endpoint("PUT", "/systems/<system_id>", systems.change_system, SELF, b.SystemChanges),
    Endpoint("DELETE", "/systems/<system_id>", systems.forget_system, ADMIN),
    Endpoint("GET", "/systems/<system_id>/health", systems.show_system_health, SELF_OR_VIEWER),
    Endpoint(
        "POST", "/systems/<system_id>/heartbeat", systems.report_heartbeat, SELF, b.HeartbeatBody, body_optional=True
    ),
    Endpoint("POST", "/systems/<system_id>/api-key/rotate", systems.rotate_api_key, SELF, query=b.GraceQuery),
    Endpoint("DELETE", "/systems/<system_id>/api-key", systems.revoke_api_key, SELF),
    Endpoint(
        "PUT",
        "/systems/<system_id>/inventory",
        inventories.replace_inventory,
        SELF,
        query=b.ColumnsQuery,
        body_raw=True,
        large=True,
    ),
    Endpoint("GET", "/systems/<system_id>/inventory", inventories.show_inventory, SELF_OR_VIEWER),
    Endpoint("POST", "/systems/<system_id>/inventory/accept", inventories.accept_inventory, ADMIN, query=b.AcceptQuery),
    Endpoint("POST", "/snapshots", singles.report_snapshot, OWN, b.SnapshotBody),
    Endpoint("POST", "/snapshots/batch", singles.report_snapshots, OWN, list[b.SnapshotBody], large=True),
    Endpoint("GET", "/snapshots", snapshots.list_snapshots, OWN_OR_VIEWER, query=b.SnapshotQuery),
    Endpoint("GET", "/snapshots/history", snapshots.list_history, OWN_OR_VIEWER, query=b.HistoryQuery),
    Endpoint("GET", "/snapshots/statistics", snapshots.show_statistics, OWN_OR_VIEWER, query=b.StatisticsQuery),
    Endpoint("GET", "/snapshots/<snapshot_id>", snapshots.show_snapshot, OWN_OR_VIEWER),
    Endpoint("DELETE", "/snapshots/<snapshot_id>", singles.forget_snapshot, OWN),
    Endpoint("POST", "/sync-groups", sync_groups.create_sync_group, ADMIN, b.GroupBody),
    Endpoint("GET", "/sync-groups", sync_groups.list_sync_groups, OWN_OR_VIEWER, query=b.Page),
    Endpoint("GET", "/sync-groups/<group_id>", sync_groups.show_sync_group, MEMBERS_OR_VIEWER),
    Endpoint("PUT", "/sync-groups/<group_id>", sync_groups.change_sync_group, ADMIN, b.GroupChanges),
    Endpoint("DELETE", "/sync-groups/<group_id>", sync_groups.delete_sync_group, ADMIN),
    Endpoint("POST", "/sync-groups/<group_id>/systems", sync_groups.add_group_system, ADMIN, b.MembershipBody),
    Endpoint("DELETE", "/sync-groups/<group_id>/systems/<system_id>", sync_groups.remove_group_system, ADMIN),
    Endpoint("GET", "/sync/instructions", sync.show_own_instructions, OWN_OR_VIEWER, query=b.OfSystem),
    Endpoint("GET", "/sync/instructions/<system_id>", sync.show_system_instructions, SELF_OR_VIEWER),
    Endpoint("GET", "/sync/states", sync.list_states, OWN_OR_VIEWER, query=b.StateQuery),
    Endpoint("GET", "/sync/states/<state_id>", sync.show_state, OWN_OR_VIEWER),
    Endpoint("POST", "/sync/actions/<action_id>/start", actions.start_action, OWN),
    Endpoint("POST", "/sync/actions/<action_id>/progress", actions.report_progress, OWN, b.ProgressBody),
    Endpoint("POST", "/sync/actions/<action_id>/finish/<exit_status>", actions.finish_action, OWN, body_raw=True),
    Endpoint("GET", "/sync/<group_id>/instructions", sync.show_instructions, MEMBERS_OR_VIEWER, query=b.OfSystem),
    Endpoint("POST", "/sync/<group_id>/check", sync.check_sync_group, MEMBERS),
    Endpoint("GET", "/sync/<group_id>/status", sync.show_status, MEMBERS_OR_VIEWER),
    Endpoint("GET", "/sync/<group_id>/prunable", sync.show_prunable, MEMBERS_OR_VIEWER),
    Endpoint("GET", "/conflicts", conflicts.list_conflicts, OWN_OR_VIEWER, query=b.ConflictQuery),
    Endpoint("GET", "/conflicts/<group_id>", conflicts.show_group_conflicts, MEMBERS_OR_VIEWER, query=b.ConflictQuery),
    Endpoint(
        "POST", "/conflicts/<conflict_id>/resolve", conflicts.resolve_conflict, ADMIN, b.ResolveBody, b.ResolveQuery
    ),
    Endpoint("GET", "/events", events.list_events, VIEWER, query=b.EventQuery),
)
AT_ROOT = ("/health", "/health/ready", "/health/live")


def make_app(witness: Witness) -> bottle.Bottle:
    """The witness as a WSGI app."""
    return build_app(witness, ENDPOINTS, AT_ROOT)
