"""Serving the API with gunicorn, or waitress where that does not run, until somebody ends it."""

import argparse
import errno
import logging
import os
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import config
from cli import signals
from cli.counts import shared_counts
from cli.terminal import OpenWitness, Refusal, load_settings
from handlers.local import first_keys
from handlers.request import Witness
from handlers.routes import make_app
from handlers.tick import Ticker

TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
TURN_S = 0.0005  # a thread at work on a large report lets others go on so often, each of whom needs that many times


def serve(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Serve the API until SIGTERM or Ctrl-C."""
    signals.end_quietly()
    settings = load_settings(options)
    listener = listen(settings)
    settings = replace(settings, port=listener.getsockname()[1])
    set_up_logging(settings)
    witness = open_witness(settings)
    shown = first_keys(witness)
    _greet(witness, shown)
    witness.store.close()  # each worker opens its own
    run_server(settings, listener, lambda: open_witness(settings))
    return 0


def listen(settings: config.Config) -> socket.socket:
    """A socket that listens where the settings say. Raises Refusal before anything else has happened."""
    _require_readable_tls(settings)
    place = f"{settings.host} port {settings.port}"
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        way_out = "; set another port" if error.errno == errno.EADDRINUSE else ""
        raise Refusal(f"cannot listen on {place}: {error.strerror}{way_out}") from error
    return listener


def _require_readable_tls(settings: config.Config) -> None:
    """Raise Refusal for files that TLS cannot be served with. Each connection reads them anew, and would fail alone."""
    for file in (settings.tls_cert, settings.tls_key):
        if file is not None and not file.is_file():
            raise Refusal(f"{file}: there is no such file, and TLS needs it")
    if settings.tls_cert is None or settings.tls_key is None:
        return
    try:
        settings.tls_key.read_bytes()
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key)
    except ssl.SSLError as error:
        raise Refusal(f"{settings.tls_cert} and {settings.tls_key} do not go together: {error.reason}") from error
    except OSError as error:
        raise Refusal(
            f"{error.filename or settings.tls_cert}: {error.strerror}; whoever runs the witness must read it"
        ) from error


def address_of(settings: config.Config) -> str:
    """Where the API is, as one types it."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{'https' if settings.tls_cert else 'http'}://{host}:{settings.port}{settings.api_prefix}"


def _greet(witness: Witness, shown: Mapping[Any, str]) -> None:
    settings = witness.config
    address = address_of(settings)
    print(f"ZFS Sync witness: {address}   data: {witness.store.where}")
    for role, key in shown.items():
        print(f"{role + ' key':12}{key}   (shown this once)")
    if shown:
        print("Next, in another terminal, register a system:")
        print(f"  curl -H 'X-API-Key: {shown.get('enroll', 'ENROLL-KEY')}' -H 'Content-Type: application/json' \\")
        print(f'       -d \'{{"hostname": "nas"}}\' {address}/systems/register')
    if settings.host not in ("127.0.0.1", "::1", "localhost") and not settings.tls_cert:
        print(f"warning: keys travel in the clear: {settings.host} is not loopback, and there is no tls_cert")
    sys.stdout.flush()


def run_server(settings: config.Config, listener: socket.socket, open_own: Callable[[], Witness]) -> None:
    """Serve on a socket until a signal ends it, which raises SystemExit."""
    sys.setswitchinterval(TURN_S)
    if hasattr(os, "fork"):
        _run_gunicorn(settings, listener, open_own)
    else:  # on Windows, where gunicorn does not run
        _run_waitress(settings, listener, open_own)


def _run_waitress(settings: config.Config, listener: socket.socket, open_own: Callable[[], Witness]) -> None:
    """One process with threads. Who is a trusted proxy is ours to judge, so waitress leaves the headers alone."""
    import waitress

    if settings.tls_cert:
        raise Refusal("tls_cert needs gunicorn, which does not run here; put a proxy with TLS in front")
    witness = open_own()
    ticker = Ticker(witness)
    ticker.start()
    try:
        waitress.serve(
            make_app(witness),
            sockets=[listener],
            threads=settings.threads,
            ident=None,
            clear_untrusted_proxy_headers=False,
            max_request_body_size=settings.max_inventory_bytes + 2**20,
        )
    finally:
        ticker.stop()


def _run_gunicorn(settings: config.Config, listener: socket.socket, open_own: Callable[[], Witness]) -> None:
    """Several processes, each with a witness of its own, and each ticks: the store lets one of them do it at a time."""
    signals.hold()
    from gunicorn.app.base import BaseApplication
    from gunicorn.glogging import Logger

    from cli.master import Master

    class ToOurLog(Logger):  # type: ignore[misc]  # gunicorn has no types
        def setup(self, cfg: Any) -> None:
            super().setup(cfg)
            self.error_log.handlers.clear()
            self.error_log.propagate = True

    tickers: list[Ticker] = []  # of this worker

    def stop_ticking(server: Any, worker: Any) -> None:
        for ticker in tickers:
            ticker.stop()

    gunicorn_options = {**_gunicorn_options(settings, listener.detach()), "logger_class": ToOurLog}
    gunicorn_options["worker_exit"] = stop_ticking

    class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
        def load_config(self) -> None:
            for name, value in gunicorn_options.items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            witness = open_own()
            tickers.append(Ticker(witness))
            tickers[-1].start()
            return make_app(witness)

    with shared_counts():
        Master(Server()).run()


def _gunicorn_options(settings: config.Config, descriptor: int) -> dict[str, Any]:
    options: dict[str, Any] = {
        "bind": f"fd://{descriptor}",
        "workers": settings.workers,
        "threads": settings.threads,
        "worker_class": "cli.worker.Worker",
        "keepalive": 30,
        "loglevel": "warning",
        "control_socket_disable": True,
        "forwarded_allow_ips": "",  # whose word about a request counts is for trusted_proxies to say
    }
    if Path("/dev/shm").is_dir():  # noqa: S108  # gunicorn's heartbeat file: a disk would make it block
        options["worker_tmp_dir"] = "/dev/shm"  # noqa: S108
    if settings.tls_cert:
        options |= {"certfile": str(settings.tls_cert), "keyfile": str(settings.tls_key), "ssl_context": tls_context}
    return options


def tls_context(server_config: Any, make_default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """TLS 1.2 or later; of 1.2, only ciphers with forward secrecy that authenticate what they encrypt (RFC 9325)."""
    context = make_default()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(TLS_1_2_CIPHERS)
    return context


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
