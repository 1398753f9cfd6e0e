"""PAGES: the whole dashboard on one page. A function gets the visit, and what its row says of path, query and form."""

import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import bottle

from handlers.binding import add_pages
from handlers.dashboard import admin, dataset, deciding, docs, matrix, overview, systems, transfers, uncovered
from handlers.dashboard.rendering import Visit
from handlers.dashboard.serving import answer_page
from handlers.errors import Refused
from handlers.request import (
    ADMIN,
    ANYONE,
    MEMBERS_OR_VIEWER,
    OWN_OR_VIEWER,
    SELF_OR_VIEWER,
    VIEWER,
    Answer,
    Endpoint,
    Witness,
)

STATIC = Path(__file__).parent / "static"


def send_static(visit: Visit, name: str) -> Answer[bytes]:
    """A style sheet, a script or a picture of ours."""
    if name not in {file.name for file in STATIC.iterdir()}:
        show_nothing(visit, f"static/{name}")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Answer((STATIC / name).read_bytes(), content_type=f"{kind}; charset=utf-8")


def show_nothing(visit: Visit, anything: str) -> NoReturn:
    """Say that there is no such page."""
    refused = Refused(f"nothing is served at /dashboard/{anything[:200]}")
    refused.status = 404
    raise refused


PAGES = (  # method, path, function, who may see it, form, query
    Endpoint("GET", "/", admin.go_home, ANYONE),
    Endpoint("GET", "/dashboard/sign-in", admin.show_sign_in, ANYONE, query=admin.SignInQuery),
    Endpoint("POST", "/dashboard/sign-in", admin.sign_in, ANYONE, admin.SignInForm),
    Endpoint("POST", "/dashboard/sign-out", admin.sign_out, ANYONE),
    Endpoint("GET", "/dashboard", overview.show_overview, OWN_OR_VIEWER),
    Endpoint("GET", "/dashboard/groups/<group_id>", matrix.show_group, MEMBERS_OR_VIEWER, query=matrix.MatrixQuery),
    Endpoint(
        "GET",
        "/dashboard/groups/<group_id>/dataset",
        dataset.show_dataset,
        MEMBERS_OR_VIEWER,
        query=dataset.DatasetQuery,
    ),
    Endpoint("GET", "/dashboard/conflicts", deciding.show_conflicts, OWN_OR_VIEWER, query=deciding.ConflictsQuery),
    Endpoint("GET", "/dashboard/conflicts/<conflict_id>", deciding.show_conflict, OWN_OR_VIEWER),
    Endpoint("POST", "/dashboard/conflicts/<conflict_id>", deciding.decide_conflict, ADMIN, deciding.DecisionForm),
    Endpoint("GET", "/dashboard/transfers", transfers.show_transfers, OWN_OR_VIEWER),
    Endpoint("GET", "/dashboard/systems", systems.show_systems, OWN_OR_VIEWER),
    Endpoint("GET", "/dashboard/systems/new", systems.show_new_system, ADMIN),
    Endpoint("POST", "/dashboard/systems/new", systems.register_new_system, ADMIN, systems.NewSystemForm),
    Endpoint(
        "GET", "/dashboard/systems/<system_id>", systems.show_one_system, SELF_OR_VIEWER, query=systems.SystemQuery
    ),
    Endpoint("GET", "/dashboard/uncovered", uncovered.show_uncovered, OWN_OR_VIEWER),
    Endpoint("GET", "/dashboard/events", admin.show_events, VIEWER, query=admin.EventsQuery),
    Endpoint("GET", "/dashboard/keys", admin.show_keys, ADMIN),
    Endpoint("POST", "/dashboard/keys", admin.create_key, ADMIN, admin.NewKeyForm),
    Endpoint("POST", "/dashboard/keys/rotate", admin.rotate_key, ADMIN, admin.RotateForm),
    Endpoint("POST", "/dashboard/keys/revoke", admin.revoke_key, ADMIN, admin.RevokeForm),
    Endpoint("GET", "/docs", docs.show_docs, ANYONE),
    Endpoint("GET", "/dashboard/agent", systems.send_agent, ANYONE),
    Endpoint("GET", "/dashboard/static/<name>", send_static, ANYONE),
    Endpoint("GET", "/dashboard/<anything:path>", show_nothing, ANYONE),
)


def add_dashboard(app: bottle.Bottle, witness: Witness) -> None:
    """Put the pages beside the API."""

    def answer(
        page: Endpoint, environ: dict[str, Any], request_id: str, path_args: Mapping[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        return answer_page(witness, page, environ, request_id, path_args)

    add_pages(app, PAGES, answer)
