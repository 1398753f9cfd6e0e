"""The API's description as a page, with forms that try a call. All of it is made from /openapi.json."""

import json
from typing import Any

from handlers.dashboard.rendering import Page, Visit
from handlers.openapi import description_of


def show_docs(visit: Visit) -> Page:
    """Describe the API; a key that is typed here stays in the browser's page."""
    document = json.loads(description_of(visit.request.config.api_prefix))
    operations = [
        {**operation, "method": method.upper(), "path": path, "answers": _answers(document, operation)}
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    by_tag: dict[str, list[dict[str, Any]]] = {}
    for operation in operations:
        by_tag.setdefault(operation["tags"][0], []).append(operation)
    values = {
        "about": document["info"]["description"].split("\n\n"),
        "prefix": document["servers"][0]["url"],
        "by_tag": by_tag,
        "schemas": sorted(document["components"]["schemas"].items()),
        "pretty": lambda value: value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False),
    }
    return Page("docs", "The API", values, is_live=False)


def _answers(document: dict[str, Any], operation: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Each status with its response, references followed."""
    found = []
    for status, response in operation["responses"].items():
        name = response.get("$ref", "").rpartition("/")[2]
        found.append((status, document["components"]["responses"][name] if name else response))
    return found
