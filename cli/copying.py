"""A store moved from one place to another: from the folder into a database, or back."""

import argparse
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import config
from cli.terminal import OpenWitness, Refusal, load_settings
from store import Store
from store.backup import copy_store

IN_PROCESS_LIST = (
    "a password on the command line is shown to every user of this machine: set store_url and write the word"
    " store_url here, or leave the password to PGPASSWORD or ~/.pgpass"
)


def copy(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Check everything in one place, and put it into another, which must be empty."""
    settings = load_settings(options)
    source, target = _place(options.source, settings), _place(options.target, settings)
    if isinstance(source, Path) and not (source / "locks").is_dir():
        raise Refusal(f"{source}: there is no store in it")
    stores = [_open(place, settings) for place in (source, target)]
    try:
        count = copy_store(*stores)
        print(f"{count} files copied from {stores[0].where} to {stores[1].where}")
    finally:
        for store in stores:
            store.close()
    return 0


def _place(word: str, settings: config.Config) -> Path | str:
    """The folder or the address that a word stands for."""
    if word == "data_dir":
        return settings.data_dir
    if word == "store_url":
        if settings.store_url is None:
            raise Refusal("store_url is not set")
        return settings.store_url
    if not word.startswith(("postgresql://", "postgres://")):
        return Path(word)
    try:
        address = urlsplit(word)
        has_password = bool(address.password) or "password" in parse_qs(address.query)
    except ValueError:
        has_password = True  # nobody can tell
    if has_password:
        raise Refusal(IN_PROCESS_LIST)
    return word


def _open(place: Path | str, settings: config.Config) -> Store:
    return Store.open(place, lock_timeout_s=settings.lock_timeout_s, secret=settings.secret_key)
