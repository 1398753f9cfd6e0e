"""Who is signed in: a signed cookie that names a key, and tokens that tell our own forms from others'.

The cookie holds no secret of the key's. It counts as long as its key does: revoked, replaced or past its grace, and
the session is over. Its path is /dashboard, so that the API never sees it.
"""

import hmac
import re
import secrets
from datetime import datetime

from handlers.request import Caller
from store import REGISTRY, Store
from store.documents import Key

SESSION = "zfs_sync_session"
FORM = "zfs_sync_form"  # before anybody is signed in, forms are tied to this one
LASTS_S = 30 * 86400

_SESSION = re.compile(r"([A-Za-z0-9_-]{1,64})\.([0-9]{1,12})\.([A-Za-z0-9_-]{16,64})\.([0-9a-f]{64})")
_FORM = re.compile(r"[A-Za-z0-9_-]{16,64}")


def new_session(store: Store, key: Key, now: datetime) -> str:
    """The cookie's value for somebody who has shown this key."""
    issued, nonce = str(int(now.timestamp())), secrets.token_urlsafe(18)
    return f"{key.id}.{issued}.{nonce}.{_signature(store, key, issued, nonce)}"


def caller_of_session(store: Store, value: str, now: datetime) -> Caller | None:
    """Who is signed in with this cookie; None when it is not ours, too old, or its key is no longer good."""
    parts = _SESSION.fullmatch(value)
    keys = store.read(REGISTRY).keys
    if parts is None or parts[1] not in keys:
        return None
    key = keys.get(parts[1])
    if not hmac.compare_digest(_signature(store, key, parts[2], parts[3]), parts[4]):
        return None
    age_s = now.timestamp() - int(parts[2])
    if age_s > LASTS_S or (key.expires_at is not None and key.expires_at <= now):
        return None
    return Caller(role=key.role, key_id=key.id, system_id=key.system_id)


def _signature(store: Store, key: Key, issued: str, nonce: str) -> str:
    """Over the key's hash too: a key that was set anew under its old id ends the sessions of the one before."""
    said = f"zfs-sync session\n{key.id}\n{issued}\n{nonce}\n{key.hash}"
    return hmac.new(store.secret, said.encode(), "sha256").hexdigest()


def form_token(store: Store, cookie: str) -> str:
    """What a form of ours carries, so that a page elsewhere can't send one in the name of whoever has the cookie."""
    return hmac.new(store.secret, f"zfs-sync form\n{cookie}".encode(), "sha256").hexdigest()


def is_our_form(store: Store, cookie: str, token: str) -> bool:
    """Whether the token was made for this cookie."""
    return bool(cookie) and hmac.compare_digest(form_token(store, cookie).encode(), token.encode())


def form_cookie(known: str) -> str:
    """The value to tie the forms of somebody to who is not signed in: the one they have, or a new one."""
    return known if _FORM.fullmatch(known) else secrets.token_urlsafe(18)


def cookies_in(header: str) -> dict[str, str]:
    """The cookies that a browser sent, by name (RFC 6265, 4.2.1); others than ours may hold anything."""
    pairs = (part.partition("=") for part in header.split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def set_cookie(name: str, value: str, *, lasts_s: int, secure: bool) -> str:
    """A Set-Cookie header. Lax: a link in a message leads in, and no other site's form does."""
    flags = "; Secure" if secure else ""
    return f"{name}={value}; Path=/dashboard; Max-Age={lasts_s}; HttpOnly; SameSite=Lax{flags}"
