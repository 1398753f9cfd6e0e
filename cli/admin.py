"""API keys from the terminal. A new key is all that is printed to stdout, so that a script can take it."""

import argparse
import sys

from cli.terminal import OpenWitness, Refusal, console, open_here, print_json, table
from handlers import keys
from handlers.local import ask, system_named
from handlers.request import Request
from handlers.words import ago
from store import NotFound


def list_keys(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Show every key without its secret."""
    request = open_here(options, open_witness)
    listed = keys.list_keys(request)
    if options.json:
        print_json(listed)
        return 0
    made = table("id", "role", "system", "made", "ends", "label")
    for key in listed:
        ends = key["expires_at"]
        made.add_row(
            key["id"],
            key["role"],
            key["hostname"] or "-",
            ago(key["created_at"].isoformat(), request.now),
            f"{ends:%Y-%m-%d %H:%M} UTC" if ends else "-",
            key["label"],
        )
    console().print(made)
    return 0


def create_key(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Make a key and print it."""
    if (options.role == "agent") != (options.system is not None):
        raise Refusal("an agent's key is for one system (--system HOST); the other roles have none")
    request = open_here(options, open_witness)
    system_id = system_named(request, options.system) if options.system else None
    return _print_key(keys.create_key(request, options.role, system_id, options.label))


def rotate_key(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Make a new key in place of one, or of all that a system has, and print it."""
    keys.require_grace(options.grace)
    request = open_here(options, open_witness)
    if _is_key(request, options.key):
        return _print_key(keys.rotate_key(request, options.key, options.grace))
    query = {} if options.grace is None else {"grace_s": options.grace}
    return _print_key(ask(request, "rotate_api_key", query, system_id=_system(request, options.key))["api_key"])


def rotate_signing(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Make a new key that signs plans, and print the public keys as agents should have them until it does."""
    keys.require_grace(options.grace)
    request = open_here(options, open_witness)
    pem, signs_from = keys.rotate_signing_key(request, options.grace)
    print(pem, end="")
    print(
        f"the last of these signs from {signs_from:%Y-%m-%d %H:%M:%S} UTC on: until then, "
        "give all of it to each agent that has a public_key",
        file=sys.stderr,
    )
    return 0


def revoke_key(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Make a key, or all that a system has, worthless at once."""
    request = open_here(options, open_witness)
    if _is_key(request, options.key):
        keys.revoke_key(request, options.key)
    else:
        ask(request, "revoke_api_key", system_id=_system(request, options.key))
    print(f"revoked: {options.key}", file=sys.stderr)
    return 0


def _is_key(request: Request, name: str) -> bool:
    return any(key["id"] == name for key in keys.list_keys(request))


def _system(request: Request, name: str) -> str:
    try:
        return system_named(request, name)
    except NotFound:
        raise Refusal(f"'{name}' is neither a key's id nor a system") from None


def _print_key(text: str) -> int:
    print(text)
    print("shown this once: keep it", file=sys.stderr)
    return 0
