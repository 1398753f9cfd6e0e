"""Is everything in order here: the configuration, the store, every file in it, and what refers to what."""

import argparse
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import config
from cli.terminal import OpenWitness, load_settings, require_owner
from handlers.local import ask, request_here
from handlers.request import Witness
from store import ALERTS, LEASES, LIMITS, REGISTRY, Busy, Shard, Store, StoreError

KINDS = ("heartbeats", "inventories", "groups", "history", "events")


def check(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Look at everything and say what is wrong; exit status 1 if anything is."""
    settings = load_settings(options)
    print(f"configuration: {settings.file or 'no file, defaults and ZFS_SYNC_* variables'}")
    require_owner(settings)
    witness = open_witness(settings)
    print(f"store: {witness.store.where}")
    for repair in _repairs(witness.store) if options.repair else []:
        print(f"repaired: {repair}")
    problems = [*_files(witness), *_strays(witness.store), *_missing_files(settings)]
    for note in [] if problems else _notes(witness):
        print(f"note: {note}")
    for problem in problems:
        print(f"problem: {problem}")
    print(f"{len(problems)} problems" if problems else "all is well")
    return 1 if problems else 0


def _files(witness: Witness) -> Iterator[str]:
    """What cannot be read, written or understood in the store; says meanwhile how much there is."""
    store = witness.store
    try:
        store.check()
    except (Busy, StoreError) as error:
        yield str(error)
    shards: list[tuple[str, list[Shard[Any]]]] = [("registry", [REGISTRY]), ("leases", [LEASES]), ("alerts", [ALERTS])]
    shards.append(("limits", [LIMITS]))
    for kind, found in [*shards, *((kind, list(store.shards(kind))) for kind in KINDS)]:
        counts: dict[str, int] = {}
        for shard in found:
            try:
                view = store.read(shard)
                view.decode_all()
            except StoreError as error:
                yield str(error)
                continue
            for name, kept in view.tables.items():
                counts[name] = counts.get(name, 0) + len(kept)
        print(f"{kind}: {', '.join(f'{count} {name}' for name, count in counts.items() if count) or 'nothing yet'}")


def _repairs(store: Store) -> Iterator[str]:
    """Put aside what is damaged or nobody's, and say so. The registry is only to be had from a backup; an inventory is
    replaced by the next report of its system, which knows better what to be careful with."""
    try:
        strays = _stray_shards(store)
    except StoreError:
        strays = []  # without the registry nobody is known
    for shard in strays:
        store.put_aside(shard)
        yield f"{shard.name} is of a system that is not registered: put aside"
    kinds = ("heartbeats", "groups", "history", "events")
    for shard in [LEASES, ALERTS, LIMITS, *(shard for kind in kinds for shard in store.shards(kind))]:
        problem = store.start_afresh(shard)
        if problem is not None:
            yield f"{problem}: done, it is empty now"


def _strays(store: Store) -> Iterator[str]:
    """What no registered system owns, as after a copy that began before one was registered."""
    with suppress(StoreError):  # which was told already
        for shard in _stray_shards(store):
            yield f"{shard.name} is of a system that is not registered; check --repair puts it aside"


def _stray_shards(store: Store) -> list[Shard[Any]]:
    kinds = ("heartbeats", "inventories", "history")
    shards = [
        shard for kind in kinds for shard in store.shards(kind)
    ]  # first: a system is registered before it reports
    known = set(store.read(REGISTRY).systems.ids())
    return [shard for shard in shards if shard.name.split("/")[1] not in known]


def _missing_files(settings: config.Config) -> Iterator[str]:
    for name in ("tls_cert", "tls_key"):
        file = getattr(settings, name)
        if file is not None and not file.is_file():
            yield f"{name}: {file}: there is no such file"


def _notes(witness: Witness) -> Iterator[str]:
    """What is no mistake, and may still not be meant."""
    request = request_here(witness)
    for group in ask(request, "list_sync_groups", {"limit": 1000}):
        for system in ask(request, "show_status", group_id=group["id"])["systems"]:
            if system["expected"]:
                yield f"group {group['name']}: {system['hostname']} has not registered yet"
