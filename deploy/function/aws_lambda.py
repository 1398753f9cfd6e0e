"""The witness as a function: AWS Lambda behind API Gateway (REST or HTTP API) or a load balancer.

Any other platform that takes a WSGI app uses `zfs_sync.application()` itself.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from apig_wsgi import make_lambda_handler

import config
from handlers.request import Witness
from handlers.routes import make_app
from handlers.tick import tick
from zfs_sync import open_witness

TEXT = ("text/", "application/json", "application/vnd.oai.openapi+json", "application/x-pem-file")


def handler_of(app: Callable[..., Iterable[bytes]]) -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    """What Lambda calls with an event, in front of a WSGI app. All but text is answered in base64."""

    def with_true_address(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["REMOTE_ADDR"] = _address(environ["apig_wsgi.full_event"])
        environ.pop("HTTP_X_FORWARDED_FOR", None)
        return app(environ, start_response)

    handle: Callable[[dict[str, Any], Any], dict[str, Any]] = make_lambda_handler(
        with_true_address, binary_support=True, non_binary_content_type_prefixes=TEXT
    )
    return handle


def _address(event: dict[str, Any]) -> str:
    """Who called, by the word of the gateway: what stands first in X-Forwarded-For is only the caller's own."""
    context = event["requestContext"]
    if "http" in context:
        return str(context["http"]["sourceIp"])
    if "identity" in context:
        return str(context["identity"]["sourceIp"])
    headers = event.get("multiValueHeaders") or {name: [value] for name, value in (event.get("headers") or {}).items()}
    return str(headers["x-forwarded-for"][-1].rsplit(",", 1)[-1].strip())


@cache
def _witness() -> Witness:
    return open_witness(config.load())


@cache
def _handle() -> Callable[[dict[str, Any], Any], dict[str, Any]]:
    return handler_of(make_app(_witness()))


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Answer one event; the first one of a process opens the store."""
    return _handle()(event, context)


def tick_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Look for alerts and tidy up, as a timer's event asks for; whether it was due."""
    return {"ticked": tick(_witness())}
