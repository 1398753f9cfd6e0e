"""The whole store into one file, and back."""

import argparse
import os
import sys

from cli.terminal import OpenWitness, Refusal, open_here
from handlers.request import Request
from store import REGISTRY, Damaged
from store.backup import DAMAGED, restore_backup, write_backup


def backup(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Write the store as of one moment to a new file, or to stdout; exit status 1 if a file of the store is damaged.
    The service may run meanwhile."""
    request = open_here(options, open_witness)
    try:
        if options.file == "-":
            count, problems = write_backup(request.store, sys.stdout.buffer, request.now)
        else:
            count, problems = _write_new(options.file, request)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Refusal(f"{options.file}: {error.strerror}") from error
    print(f"{count} files. They hold what keys are hashed with: as private as the data folder", file=sys.stderr)
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    if problems:
        print(f"the backup has each of these as *.json{DAMAGED}, and restore leaves it out", file=sys.stderr)
    return 1 if problems else 0


def _write_new(file: str, request: Request) -> tuple[int, list[str]]:
    """A backup that is there as a whole or not at all, and never in place of another."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            written = write_backup(request.store, out, request.now)
            out.flush()
            os.fsync(out.fileno())
    except BaseException:
        os.unlink(file)
        raise
    return written


def restore(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Put a backup in place of all that the store holds, once all of it was checked."""
    request = open_here(options, open_witness)
    held = _held(request)
    if held and not options.replace:
        raise Refusal(f"the store holds {held}: --replace puts the backup in their place (back it up first)")
    try:
        with open(options.file, "rb") as source:
            count, left_out = restore_backup(request.store, source)
    except OSError as error:
        raise Refusal(f"{options.file}: {error.strerror}") from error
    for name in left_out:
        print(f"left out: {name}: it was damaged when the backup was made", file=sys.stderr)
    print(f"{count} files restored. If the service runs, restart it")
    return 0


def _held(request: Request) -> str:
    """What a restore would replace, in words; empty where that is nothing."""
    try:
        count = len(request.store.read(REGISTRY).systems)
    except Damaged:
        return "systems and keys that can't be read"
    return f"{count} systems" if count else ""
