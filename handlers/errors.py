"""Refusals, and the one table from exception to status."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from store import AlreadyExists, Busy, NotFound, StoreError, StoreFull


class Refused(Exception):
    """A request that is answered with an error. Subclasses say which."""

    status = 400

    def __init__(
        self, detail: str, *, errors: Sequence[tuple[str, str]] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


class Malformed(Refused):
    """The body or a parameter cannot be read at all."""


class Unauthorized(Refused):
    """There is no key, or it is not a key of ours."""

    status = 401


class Forbidden(Refused):
    """The key is good, and not for this."""

    status = 403


class Conflicting(Refused):
    """What is asked for does not go with what is there."""

    status = 409


class Gone(Refused):
    """It was there; it is no longer."""

    status = 410


class PreconditionFailed(Refused):
    """If-Match named another version than the one that is there."""

    status = 412


class TooLarge(Refused):
    """The body is over a limit of the configuration."""

    status = 413


class UnsupportedMediaType(Refused):
    """The body is of a kind that this endpoint does not read."""

    status = 415


class Invalid(Refused):
    """The body was read and says something that cannot be: `errors` names each field or line."""

    status = 422

    @classmethod
    def at(cls, loc: str, message: str) -> "Invalid":
        """An Invalid with one error."""
        return cls(f"{loc}: {message}", errors=[(loc, message)])


class TooMany(Refused):
    """Too many attempts from one address, or with one key."""

    status = 429


def require_valid(errors: Sequence[tuple[str, str]]) -> None:
    """Raise Invalid when there are errors (pairs of location and message)."""
    if errors:
        loc, message = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise Invalid(f"{loc}: {message}{more}", errors=errors)


def refusal_of(error: Exception) -> Refused | None:
    """The Refused that an exception from elsewhere stands for; None for one that is our own mistake."""
    match error:
        case Refused():
            return error
        case NotFound():
            return _with_status(404, str(error))
        case AlreadyExists():
            return Conflicting(str(error))
        case Busy():
            return _with_status(503, str(error), {"Retry-After": "1"})
        case StoreFull():
            return _with_status(507, str(error))
        case StoreError():
            return _with_status(503, str(error), {"Retry-After": "30"})
    return None


def _with_status(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Refused:
    refused = Refused(detail, headers=headers)
    refused.status = status
    return refused


def error_body(status: int, detail: str, errors: Sequence[tuple[str, str]] = ()) -> bytes:
    """The JSON that every error answer has."""
    body: dict[str, Any] = {"detail": detail, "status_code": status}
    if errors:
        body["errors"] = [{"loc": loc, "msg": message} for loc, message in errors]
    return msgspec.json.encode(body)
