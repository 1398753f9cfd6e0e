"""ENDPOINTS: the whole API on one page."""

from typing import Any

import bottle

from handlers import (
    actions,
    conflicts,
    events,
    health,
    inventories,
    metrics,
    openapi,
    singles,
    snapshots,
    sync,
    sync_groups,
    systems,
)
from handlers import bodies as b
from handlers.binding import build_app
from handlers.dashboard.routes import add_dashboard
from handlers.request import (
    ADMIN,
    ANYONE,
    ENROLL,
    JSON,
    MEMBERS,
    MEMBERS_OR_VIEWER,
    METRICS,
    OWN,
    OWN_OR_VIEWER,
    SCRIPT,
    SELF,
    SELF_OR_VIEWER,
    TSV,
    VIEWER,
    Endpoint,
    Witness,
)
from handlers.wire import prepare_kinds

PEM, TEXT = "application/x-pem-file", "text/plain"
TOTAL = ("X-Total-Count",)
MADE: Any = {"status": 201, "sends": ("Location",)}
PLAN: Any = {"gives": (JSON, TSV, SCRIPT), "sends": ("X-Plan-Expires", "X-Plan-Signature")}

ENDPOINTS = (  # method, path, handler, callers, body, query
    Endpoint("GET", "/health", health.show_health, ANYONE),
    Endpoint("GET", "/health/ready", health.show_readiness, ANYONE, refuses=(503,)),
    Endpoint("GET", "/health/live", health.show_liveness, ANYONE),
    Endpoint("GET", "/public-key", health.show_public_key, ANYONE, gives=(PEM,)),
    Endpoint("GET", "/metrics", metrics.show_metrics, METRICS, gives=(TEXT,)),
    Endpoint("GET", "/openapi.json", openapi.show_openapi, ANYONE),
    Endpoint("POST", "/systems/register", systems.register_system, ENROLL, b.SystemBody, **MADE, refuses=(409,)),
    Endpoint("GET", "/systems", systems.list_systems, VIEWER, query=b.Page),
    Endpoint("GET", "/systems/health", systems.list_system_health, OWN_OR_VIEWER, sends=TOTAL),
    Endpoint("GET", "/systems/<system_id>", systems.show_system, SELF_OR_VIEWER),
    Endpoint("PUT", "/systems/<system_id>", systems.change_system, SELF, b.SystemChanges, refuses=(409,)),
    Endpoint("DELETE", "/systems/<system_id>", systems.forget_system, ADMIN, status=204, refuses=(409,)),
    Endpoint("GET", "/systems/<system_id>/health", systems.show_system_health, SELF_OR_VIEWER),
    Endpoint(
        "POST",
        "/systems/<system_id>/heartbeat",
        systems.report_heartbeat,
        SELF,
        b.HeartbeatBody,
        body_optional=True,
        sends=("X-Inventory",),
    ),
    Endpoint("POST", "/systems/<system_id>/api-key/rotate", systems.rotate_api_key, SELF, query=b.GraceQuery),
    Endpoint("DELETE", "/systems/<system_id>/api-key", systems.revoke_api_key, SELF, status=204),
    Endpoint(
        "PUT",
        "/systems/<system_id>/inventory",
        inventories.replace_inventory,
        SELF,
        query=b.ColumnsQuery,
        takes={TSV: b.Listing, JSON: b.InventoryBody},
        large=True,
    ),
    Endpoint(
        "GET",
        "/systems/<system_id>/inventory",
        inventories.show_inventory,
        SELF_OR_VIEWER,
        gives=(JSON, TSV),
        sends=("X-Columns",),
    ),
    Endpoint("POST", "/systems/<system_id>/inventory/accept", inventories.accept_inventory, ADMIN, query=b.AcceptQuery),
    Endpoint("POST", "/snapshots", singles.report_snapshot, OWN, b.SnapshotBody, **MADE),
    Endpoint("POST", "/snapshots/batch", singles.report_snapshots, OWN, list[b.SnapshotBody], large=True, status=201),
    Endpoint("GET", "/snapshots", snapshots.list_snapshots, OWN_OR_VIEWER, query=b.SnapshotQuery),
    Endpoint("GET", "/snapshots/history", snapshots.list_history, OWN_OR_VIEWER, query=b.HistoryQuery, heavy=True),
    Endpoint(
        "GET",
        "/snapshots/statistics",
        snapshots.show_statistics,
        OWN_OR_VIEWER,
        query=b.StatisticsQuery,
        heavy=True,
        sends=TOTAL,
    ),
    Endpoint("GET", "/snapshots/<snapshot_id>", snapshots.show_snapshot, OWN_OR_VIEWER),
    Endpoint("DELETE", "/snapshots/<snapshot_id>", singles.forget_snapshot, OWN, status=204),
    Endpoint("POST", "/sync-groups", sync_groups.create_sync_group, ADMIN, b.GroupBody, **MADE, refuses=(409,)),
    Endpoint("GET", "/sync-groups", sync_groups.list_sync_groups, OWN_OR_VIEWER, query=b.Page),
    Endpoint("GET", "/sync-groups/<group_id>", sync_groups.show_sync_group, MEMBERS_OR_VIEWER),
    Endpoint("PUT", "/sync-groups/<group_id>", sync_groups.change_sync_group, ADMIN, b.GroupChanges, refuses=(409,)),
    Endpoint("DELETE", "/sync-groups/<group_id>", sync_groups.delete_sync_group, ADMIN, status=204, refuses=(409,)),
    Endpoint(
        "POST",
        "/sync-groups/<group_id>/systems",
        sync_groups.add_group_system,
        ADMIN,
        b.MembershipBody,
        refuses=(409,),
    ),
    Endpoint(
        "DELETE",
        "/sync-groups/<group_id>/systems/<system_id>",
        sync_groups.remove_group_system,
        ADMIN,
        status=204,
        refuses=(409,),
    ),
    Endpoint("GET", "/sync/instructions", sync.show_own_instructions, OWN_OR_VIEWER, query=b.OfSystem, **PLAN),
    Endpoint("GET", "/sync/instructions/<system_id>", sync.show_system_instructions, SELF_OR_VIEWER, **PLAN),
    Endpoint("GET", "/sync/states", sync.list_states, OWN_OR_VIEWER, query=b.StateQuery),
    Endpoint("GET", "/sync/states/<state_id>", sync.show_state, OWN_OR_VIEWER),
    Endpoint(
        "POST",
        "/sync/actions/<action_id>/start",
        actions.start_action,
        OWN,
        refuses=(409, 410),
        sends=("X-Lease-Token", "X-Lease-Seconds"),
    ),
    Endpoint(
        "POST",
        "/sync/actions/<action_id>/progress",
        actions.report_progress,
        OWN,
        b.ProgressBody,
        headers=b.LeaseHeaders,
        refuses=(410,),
        sends=("X-Lease-Seconds",),
    ),
    Endpoint(
        "POST",
        "/sync/actions/<action_id>/finish/<exit_status>",
        actions.finish_action,
        OWN,
        headers=b.FinishHeaders,
        takes={TEXT: str},
        refuses=(409, 410),
    ),
    Endpoint(
        "GET", "/sync/<group_id>/instructions", sync.show_instructions, MEMBERS_OR_VIEWER, query=b.OfSystem, **PLAN
    ),
    Endpoint("POST", "/sync/<group_id>/check", sync.check_sync_group, MEMBERS, heavy=True),
    Endpoint("GET", "/sync/<group_id>/status", sync.show_status, MEMBERS_OR_VIEWER),
    Endpoint("GET", "/sync/<group_id>/prunable", sync.show_prunable, MEMBERS_OR_VIEWER, heavy=True),
    Endpoint("GET", "/conflicts", conflicts.list_conflicts, OWN_OR_VIEWER, query=b.ConflictQuery),
    Endpoint("GET", "/conflicts/<group_id>", conflicts.show_group_conflicts, MEMBERS_OR_VIEWER, query=b.ConflictQuery),
    Endpoint(
        "POST",
        "/conflicts/<conflict_id>/resolve",
        conflicts.resolve_conflict,
        ADMIN,
        b.ResolveBody,
        b.ResolveQuery,
        heavy=True,
        refuses=(409,),
    ),
    Endpoint("GET", "/events", events.list_events, VIEWER, query=b.EventQuery),
)
AT_ROOT = ("/health", "/health/ready", "/health/live", "/openapi.json")

prepare_kinds()  # all are defined by now


def make_app(witness: Witness) -> bottle.Bottle:
    """The witness as a WSGI app: the API and the dashboard."""
    app = build_app(witness, ENDPOINTS, AT_ROOT)
    add_dashboard(app, witness)
    return app
