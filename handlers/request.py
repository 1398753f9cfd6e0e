"""What a handler gets and gives: Request, Caller and Answer, and the Endpoint rows that bind them to paths."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar, get_args, get_origin

import msgspec

from config import Config, GroupsFile
from store import Store
from store.documents import Role

Body = TypeVar("Body")
JSON = "application/json"
TSV = "text/tab-separated-values"
SCRIPT = "text/x-shellscript"

# Entries of the environ: the id of the key that was accepted, whence the request came, and the endpoint's name
CALLER, ADDRESS, ENDPOINT = "zfs_sync.caller", "zfs_sync.address", "zfs_sync.endpoint"


@dataclass(frozen=True, slots=True)
class Witness:
    """The parts that every handler may use. One per process; holds no request's state."""

    config: Config
    store: Store
    groups_file: GroupsFile


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose key came with the request. Without one: no role."""

    role: Role | None = None
    key_id: str | None = None
    system_id: str | None = None  # an agent's

    @property
    def is_agent(self) -> bool:
        """Whether the caller may see and do only what concerns its own system."""
        return self.role == "agent"


@dataclass(frozen=True, slots=True)
class Request:
    """One call, with everything that a handler may know of it."""

    witness: Witness
    caller: Caller
    now: datetime
    id: str
    address: str
    headers: Mapping[str, str]  # names in lower case
    raw: bytes = b""  # the body, unzipped
    if_match: tuple[str, ...] = ()
    prefix: str = ""  # of the witness's paths, as the caller knows them

    @property
    def store(self) -> Store:
        """The witness's store."""
        return self.witness.store

    @property
    def config(self) -> Config:
        """The witness's configuration."""
        return self.witness.config


@dataclass(frozen=True, slots=True)
class Answer(Generic[Body]):
    """A response that is more than JSON alone."""

    body: Body | bytes  # encoded as JSON, unless it is bytes
    status: int | None = None  # None: as the endpoint's row says
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Callers:
    """Who may call an endpoint: some roles, and agents that are the system or in the group of the path."""

    name: str
    roles: frozenset[Role] = frozenset()
    agents: str = "none"  # none, self (of the path's system_id), member (of its group_id), any (the handler narrows)

    @property
    def everybody(self) -> str:
        """Those who may, the admin among them, in words."""
        return self.name if self.name in ("admin", "anyone") else f"{self.name}, admin"


ANYONE = Callers("anyone")
ADMIN = Callers("admin", frozenset({"admin"}))
VIEWER = Callers("viewer", frozenset({"admin", "viewer"}))
METRICS = Callers("viewer; anyone if metrics_public", frozenset({"admin", "viewer"}))
ENROLL = Callers("enroll", frozenset({"admin", "enroll"}))
SELF = Callers("self", frozenset({"admin"}), "self")
SELF_OR_VIEWER = Callers("self, viewer", frozenset({"admin", "viewer"}), "self")
MEMBERS = Callers("members", frozenset({"admin"}), "member")
MEMBERS_OR_VIEWER = Callers("members, viewer", frozenset({"admin", "viewer"}), "member")
OWN = Callers("agents for their own system", frozenset({"admin"}), "any")
OWN_OR_VIEWER = Callers("viewer; agents see their own", frozenset({"admin", "viewer"}), "any")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of the API."""

    method: str
    path: str
    handler: Callable[..., Any]  # the type it returns is what the answer's JSON is
    callers: Callers
    body: Any = None  # a msgspec type; None: no JSON is read
    query: type[msgspec.Struct] | None = None
    headers: type[msgspec.Struct] | None = None
    body_optional: bool = False
    takes: Mapping[str, Any] = field(default_factory=dict)  # the handler reads request.raw itself: types by media type
    heavy: bool = False  # one key may ask for it only so often
    large: bool = False  # the body may have max_inventory_bytes
    status: int = 200  # of an answer that is not a refusal
    refuses: tuple[int, ...] = ()  # beside what every endpoint of its kind may answer
    gives: tuple[str, ...] = (JSON,)  # the answer's media types, chosen by Accept
    sends: tuple[str, ...] = ()  # headers of the answer, beside those of every answer of its kind

    @property
    def name(self) -> str:
        """The handler's name, which is the operationId."""
        return str(self.handler.__name__)

    @property
    def reads_body(self) -> bool:
        """Whether a body may come with the request."""
        return self.body is not None or bool(self.takes)

    @property
    def for_anyone(self) -> bool:
        """Whether it never needs a key."""
        return self.callers is ANYONE

    @property
    def path_types(self) -> dict[str, Any]:
        """The types of the path's parts that are no ids, by name."""
        names = [name for name in re.findall(r"<(\w+)>", self.path) if not name.endswith("_id")]
        return {name: self.handler.__annotations__[name] for name in names}

    @property
    def answer(self) -> Any:
        """The type of the answer's JSON; None where it has no body."""
        said: Any = self.handler.__annotations__["return"]
        origin: Any = get_origin(said)
        return get_args(said)[0] if origin is Answer else said
