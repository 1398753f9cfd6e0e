"""The whole store into one file, and back."""

import argparse
import os
import sys

from cli.terminal import OpenWitness, Refusal, open_here
from handlers.request import Request
from store import REGISTRY
from store.backup import restore_backup, write_backup


def backup(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Write the store as of one moment to a new file, or to stdout. The service may run meanwhile."""
    request = open_here(options, open_witness)
    try:
        if options.file == "-":
            count = write_backup(request.store, sys.stdout.buffer, request.now)
        else:
            count = _write_new(options.file, request)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Refusal(f"{options.file}: {error.strerror}") from error
    print(f"{count} files. They hold what keys are hashed with: as private as the data folder", file=sys.stderr)
    return 0


def _write_new(file: str, request: Request) -> int:
    """A backup that is there as a whole or not at all, and never in place of another."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            count = write_backup(request.store, out, request.now)
            out.flush()
            os.fsync(out.fileno())
    except BaseException:
        os.unlink(file)
        raise
    return count


def restore(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Put a backup in place of all that the store holds, once all of it was checked."""
    request = open_here(options, open_witness)
    systems = len(request.store.read(REGISTRY).systems)
    if systems and not options.replace:
        raise Refusal(f"the store holds {systems} systems: --replace puts the backup in their place (back it up first)")
    try:
        with open(options.file, "rb") as source:
            count = restore_backup(request.store, source)
    except OSError as error:
        raise Refusal(f"{options.file}: {error.strerror}") from error
    print(f"{count} files restored. If the service runs, restart it")
    return 0
