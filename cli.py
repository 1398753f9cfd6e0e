"""What a person types: python zfs_sync.py [COMMAND] [--config FILE]."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import config
from handlers.auth import ensure_first_keys
from handlers.request import Witness
from handlers.routes import make_app
from store import Busy, StoreError

OpenWitness = Callable[[config.Config], Witness]


def main(arguments: Sequence[str], open_witness: OpenWitness) -> int:
    """Run one command; its exit status."""
    options = _parser().parse_args(arguments)
    try:
        settings = config.load(options.config)
        return int(options.run(options, settings, open_witness))
    except (config.ConfigError, StoreError, Busy) as error:
        print(f"zfs_sync: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="zfs_sync.py", description="The ZFS Sync witness.")
    parser.add_argument("--config", type=Path, help="the configuration file (default: zfs_sync.yaml, if it is there)")
    parser.set_defaults(run=serve)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    commands.add_parser("serve", help="serve the API (the default)").set_defaults(run=serve)
    return parser


# --- serve ---------------------------------------------------------------------------------------


def serve(options: argparse.Namespace, settings: config.Config, open_witness: OpenWitness) -> int:
    """Serve the API with gunicorn until it is told to stop."""
    set_up_logging(settings)
    witness = open_witness(settings)
    shown = ensure_first_keys(witness.store, settings, datetime.now(UTC))
    _greet(settings, shown)
    _run_gunicorn(settings, lambda: make_app(open_witness(settings)))
    return 0


def _greet(settings: config.Config, shown: dict[Any, str]) -> None:
    scheme = "https" if settings.tls_cert else "http"
    address = f"{scheme}://{settings.host}:{settings.port}"
    print(f"ZFS Sync witness: {address}{settings.api_prefix}   data: {settings.data_dir}")
    for role, key in shown.items():
        print(f"{role + ' key':12}{key}   (shown this once)")
    if shown:
        print("Next, in another terminal, register a system:")
        print(f"  curl -H 'X-API-Key: {shown.get('enroll', 'ENROLL-KEY')}' -H 'Content-Type: application/json' \\")
        print(f'       -d \'{{"hostname": "nas"}}\' {address}{settings.api_prefix}/systems/register')
    if settings.host not in ("127.0.0.1", "::1", "localhost") and not settings.tls_cert:
        print(f"warning: keys travel in the clear: {settings.host} is not loopback, and there is no tls_cert")
    sys.stdout.flush()


def _run_gunicorn(settings: config.Config, load_app: Callable[[], Any]) -> None:
    """Serve with gunicorn; each worker loads the app for itself, after the fork."""
    from gunicorn.app.base import BaseApplication

    class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
        def load_config(self) -> None:
            for name, value in _gunicorn_options(settings).items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            return load_app()

    Server().run()


def _gunicorn_options(settings: config.Config) -> dict[str, Any]:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    options: dict[str, Any] = {
        "bind": f"{host}:{settings.port}",
        "workers": settings.workers,
        "threads": settings.threads,
        "worker_class": "gthread",
        "keepalive": 30,
        "loglevel": "warning",
        "control_socket_disable": True,
    }
    if Path("/dev/shm").is_dir():  # noqa: S108  # gunicorn's heartbeat file: a disk would make it block
        options["worker_tmp_dir"] = "/dev/shm"  # noqa: S108
    if settings.tls_cert:
        options |= {"certfile": str(settings.tls_cert), "keyfile": str(settings.tls_key)}
    return options


def set_up_logging(settings: config.Config) -> None:
    """Log lines to stderr or to a rotated file, as text or JSON."""
    handler: logging.Handler = logging.StreamHandler()
    if settings.log_file is not None:
        from concurrent_log_handler import ConcurrentRotatingFileHandler

        handler = ConcurrentRotatingFileHandler(settings.log_file, "a", 10 * 2**20, 5)
    if settings.log_format == "json":
        from pythonjsonlogger.json import JsonFormatter

        handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=settings.log_level, handlers=[handler])
