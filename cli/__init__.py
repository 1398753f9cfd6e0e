"""What a person types: python zfs_sync.py [COMMAND] [--config FILE].

Every command but `serve` and `demo` works on the store of this machine, whether the service runs or not, and shows
what the API would answer to an admin. Those that only ask or decide can do so over HTTP, too (--url).
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cli import admin, backups, check, copying, deciding, demo, serve, telling, tls, trail, views
from cli.terminal import OpenWitness, Refusal
from config import ConfigError
from handlers.errors import Refused
from store import AlreadyExists, Busy, NotFound, StoreError

VERSION = "0.2.0"


def main(arguments: Sequence[str], open_witness: OpenWitness) -> int:
    """Run one command; its exit status: 0, 1 for what went wrong (3 from `status`), 2 for a wrong command line."""
    options = _parser().parse_args(arguments)
    try:
        status = int(options.run(options, open_witness))
        sys.stdout.flush()  # here, where a reader that is gone is no error, and not as the program ends
        return status
    except (ConfigError, StoreError, Busy, NotFound, AlreadyExists, Refused, Refusal) as error:
        print(f"zfs_sync: {error}", file=sys.stderr)
        return int(options.trouble)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    file_help = "the configuration file (default: ZFS_SYNC_CONFIG, else zfs_sync.yaml if it is there)"
    shared.add_argument("--config", type=Path, metavar="FILE", default=argparse.SUPPRESS, help=file_help)
    as_json = argparse.ArgumentParser(add_help=False, parents=[shared])
    as_json.add_argument("--json", action="store_true", help="what the API answers, for scripts")
    asking = argparse.ArgumentParser(add_help=False, parents=[as_json])
    url_help = "ask this witness over HTTP (default: ZFS_SYNC_URL, else the store here); the key is in ZFS_SYNC_KEY"
    asking.add_argument("--url", help=url_help)
    asking.add_argument("--key-file", type=Path, metavar="FILE", help="a file with the key, instead of ZFS_SYNC_KEY")
    parser = argparse.ArgumentParser(prog="zfs_sync.py", description="The ZFS Sync witness.", parents=[shared])
    parser.add_argument("--version", action="version", version=f"ZFS Sync {VERSION}")
    parser.set_defaults(run=serve.serve, trouble=1)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    commands.add_parser("serve", parents=[shared], help="serve the API (the default)").set_defaults(run=serve.serve)
    _add_demo(commands)
    _add_views(commands, asking)
    _add_resolve(commands, asking)
    _add_events(commands, asking)
    _add_keys(commands, shared, as_json)
    checking = commands.add_parser(
        "check", parents=[shared], help="check the configuration and every file of the store"
    )
    repair = "put aside what is damaged or of no registered system, and start it afresh where that can be done"
    checking.add_argument("--repair", action="store_true", help=repair)
    checking.set_defaults(run=check.check)
    _add_backups(commands, shared)
    _add_telling(commands, shared, as_json)
    making = commands.add_parser("tls", parents=[shared], help="make a certificate, and say how to serve and trust it")
    making.add_argument(
        "names", nargs="*", metavar="NAME", help="names and addresses of the witness, beside this host's"
    )
    making.set_defaults(run=tls.make_certificate)
    completion = commands.add_parser("completion", help="print what lets a shell complete commands and options")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    completion.set_defaults(run=_complete)
    return parser


def _complete(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Print a shell's completions."""
    import shtab

    print(shtab.complete(_parser(), options.shell))
    return 0


def _add_demo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser("demo", help="serve three systems of an example, from a folder that goes afterwards")
    command.add_argument("--port", type=int, default=8000, help="where to listen on this machine (default: 8000)")
    command.set_defaults(run=demo.demo)


def _add_resolve(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", asking: argparse.ArgumentParser
) -> None:
    command = commands.add_parser(
        "resolve", parents=[asking], help="decide a conflict; nothing is destroyed by default"
    )
    command.add_argument("conflict", metavar="ID", help="a conflict's id, or how it begins")
    command.add_argument("strategy", choices=("use_newest", "use_largest", "use_majority", "manual", "ignore"))
    command.add_argument("--system", metavar="HOST", help="who wins, for manual")
    command.add_argument(
        "--discard", action="store_true", help="destroy what only the others have, instead of keeping it"
    )
    command.add_argument("--dry-run", action="store_true", help="only show what it would run and cost")
    command.set_defaults(run=deciding.resolve)


def _add_events(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", asking: argparse.ArgumentParser
) -> None:
    command = commands.add_parser(
        "events", parents=[asking], help="who did what, when, and from where; the newest last"
    )
    command.add_argument("--follow", action="store_true", help="go on until Ctrl-C")
    command.add_argument("--limit", type=int, default=20, metavar="N", help="how many to begin with (default: 20)")
    command.add_argument("--what", help="only these, such as conflict.resolved")
    command.set_defaults(run=trail.events)


def _add_views(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", as_json: argparse.ArgumentParser
) -> None:
    what = "where every dataset stands on every system, the worst first"
    exits = "Exit status, as monitoring plugins have it: 0 ok, 1 late, 2 conflict or error, 3 unknown."
    command = commands.add_parser("status", parents=[as_json], help=what, description=f"Show {what}. {exits}")
    command.add_argument("group", nargs="?", help="a sync group's name or id (default: all)")
    command.add_argument("--nagios", action="store_true", help="one line with performance data, for monitoring plugins")
    command.set_defaults(run=views.status, trouble=3)
    command = commands.add_parser("plan", parents=[as_json], help="what a group's systems should run next")
    command.add_argument("group", help="a sync group's name or id")
    command.add_argument("--system", metavar="HOST", help="only what this system should run")
    command.add_argument("--script", action="store_true", help="a script of it to read, and to run there by hand")
    command.set_defaults(run=views.plan)
    command = commands.add_parser("systems", parents=[as_json], help="the systems, and when they were last heard from")
    command.set_defaults(run=views.systems)
    command = commands.add_parser("conflicts", parents=[as_json], help="what needs a decision, and the ways out")
    command.add_argument("group", nargs="?", help="a sync group's name or id (default: all)")
    command.set_defaults(run=views.conflicts)


def _add_keys(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    shared: argparse.ArgumentParser,
    as_json: argparse.ArgumentParser,
) -> None:
    keys = commands.add_parser("keys", help="API keys").add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    command = keys.add_parser("list", parents=[as_json], help="every key, without its secret")
    command.set_defaults(run=admin.list_keys)
    command = keys.add_parser("create", parents=[shared], help="make a key and print it, this once")
    command.add_argument("role", choices=("admin", "agent", "viewer", "enroll"))
    command.add_argument("--system", metavar="HOST", help="the system that an agent's key is for")
    command.add_argument("--label", default="", help="what it is for, as a reminder")
    command.set_defaults(run=admin.create_key)
    command = keys.add_parser("rotate", parents=[shared], help="make a new key and print it; the old one ends later")
    command.add_argument("key", metavar="ID|HOST", help="a key's id (what stands before its dot), or a system")
    command.add_argument(
        "--grace", type=int, metavar="SECONDS", help="how long the old one works (default: key_grace_s)"
    )
    command.set_defaults(run=admin.rotate_key)
    what = "make a new key that signs plans; print what agents should trust until it does"
    command = keys.add_parser("rotate-signing", parents=[shared], help=what)
    command.add_argument(
        "--grace", type=int, metavar="SECONDS", help="how long the old one still signs (default: key_grace_s)"
    )
    command.set_defaults(run=admin.rotate_signing)
    command = keys.add_parser("revoke", parents=[shared], help="make a key, or all of a system's, worthless at once")
    command.add_argument("key", metavar="ID|HOST", help="a key's id (what stands before its dot), or a system")
    command.set_defaults(run=admin.revoke_key)


def _add_telling(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    shared: argparse.ArgumentParser,
    as_json: argparse.ArgumentParser,
) -> None:
    what = "look for what is late or wrong and tell, as the service does by itself every tick_s; for cron"
    commands.add_parser("tick", parents=[shared], help=what).set_defaults(run=telling.run_tick)
    command = commands.add_parser("notify", parents=[as_json], help="the alerts in force, and what waits to be told")
    command.add_argument("--test", action="store_true", help="send a test over every channel instead")
    command.set_defaults(run=telling.run_notify)


def _add_backups(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", shared: argparse.ArgumentParser
) -> None:
    command = commands.add_parser("backup", parents=[shared], help="write the store, as of one moment, to one file")
    command.add_argument("file", help="a new file, or - for stdout")
    command.set_defaults(run=backups.backup)
    command = commands.add_parser("restore", parents=[shared], help="check a backup, and make it the store")
    command.add_argument("file", help="what `backup` wrote")
    command.add_argument("--replace", action="store_true", help="even if the store has systems already")
    command.set_defaults(run=backups.restore)
    places = (
        "`data_dir` or `store_url` (as configured), a folder, or postgresql://user@host/database without a password"
    )
    command = commands.add_parser(
        "copy-store",
        parents=[shared],
        help="copy a store from a folder into a database, or back; stop the service first",
        description=f"Check all that FROM holds and copy it to TO, which must be empty. Each is {places}.",
    )
    command.add_argument("source", metavar="FROM")
    command.add_argument("target", metavar="TO")
    command.set_defaults(run=copying.copy)
