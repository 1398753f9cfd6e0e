"""What the commands share: the witness opened here, and tables."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

import config
from handlers.local import request_here, user_name
from handlers.request import Request, Witness

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

OpenWitness = Callable[[config.Config], Witness]

WIDTH = 200  # of what goes into a file or a pipe: nothing is wrapped there


class Refusal(Exception):
    """What cannot be done, said to whoever asked for it."""


def open_here(options: argparse.Namespace, open_witness: OpenWitness) -> Request:
    """A request to the witness of this machine, by the person who sits there."""
    settings = load_settings(options)
    require_owner(settings)
    return request_here(open_witness(settings))


def load_settings(options: argparse.Namespace) -> config.Config:
    """The settings, from the file that --config names if it was given."""
    return config.load(getattr(options, "config", None))


def require_owner(settings: config.Config) -> None:
    """Raise Refusal to root where the store's files are another user's: the service could not read what root writes."""
    folder = settings.data_dir
    if settings.store_url is not None:
        return
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not folder.is_dir():
        return
    owners = sorted({entry.stat().st_uid for entry in folder.iterdir()})
    if owners and 0 not in owners:
        user = user_name(owners[0])
        raise Refusal(f"what lies in {folder} belongs to {user}: run this as that user (sudo -u {user} ...)")


def console() -> "Console":
    """Where tables are printed: as wide as the terminal, without colours where there is none."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else WIDTH
    return Console(width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def table(*headings: str) -> "Table":
    """An empty table without lines, so that it can be copied and cut."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    return made


def print_json(value: Any) -> None:
    """A value as JSON that is pleasant to read."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
