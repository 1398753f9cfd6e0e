"""A real nginx in front of witnesses, with the configuration that deploy/proxy offers."""

import re
import socket
import ssl
import subprocess
import time
from pathlib import Path

from tests.programs import need

OFFERED = Path(__file__).parent.parent / "deploy" / "proxy" / "nginx.conf"
NAME = "sync.example.org"


class Nginx:
    """A running nginx: `port` speaks TLS with the certificate in `certificate`, `plain_port` does not.

    The witness is at /, and with `below` at /zfs/, too.
    """

    def __init__(self, folder: Path, backends: list[int], *, below: bool = False) -> None:
        binary = need("nginx")
        self.port, self.plain_port = _free_ports(2)
        self.certificate = folder / "cert.pem"
        _make_certificate(folder)
        (folder / "nginx.conf").write_text(self._configuration(folder, backends, below))
        self._argv = [binary, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
        subprocess.run([*self._argv, "-t"], check=True, capture_output=True, timeout=30)
        self._process = subprocess.Popen(self._argv)
        wait_for(self.port)

    def _configuration(self, folder: Path, backends: list[int], below: bool) -> str:
        """What we offer, with this machine's ports and files in it, and nothing else changed."""
        text = OFFERED.read_text()
        servers = "\n".join(f"server 127.0.0.1:{port} max_fails=0;" for port in backends)
        for pattern, replacement in (
            (r"server 127\.0\.0\.1:8000 max_fails=0;", servers),
            (r"listen 80;", f"listen 127.0.0.1:{self.plain_port};"),
            (r"listen 443 ", f"listen 127.0.0.1:{self.port} "),
            (r"/etc/letsencrypt/live/sync\.example\.org/fullchain\.pem", str(self.certificate)),
            (r"/etc/letsencrypt/live/sync\.example\.org/privkey\.pem", str(folder / "key.pem")),
        ):
            text, count = re.subn(pattern, replacement, text)
            assert count == 1, f"nginx.conf has no {pattern} to replace"
        if below:
            text, count = re.subn(r"(?m)^    # (?=location /zfs/|    proxy_pass|}$)", "    ", text)
            assert count == 3
            text, count = re.subn(r'X-Forwarded-Prefix "";', "X-Forwarded-Prefix /zfs;", text)
            assert count == 1
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy"))
        return (
            f"daemon off; pid {folder}/nginx.pid; user root; worker_processes 1; events {{}}\n"
            f"http {{ access_log off; {temporary}\n{text}\n}}"
        )

    def context(self) -> ssl.SSLContext:
        """TLS that trusts this nginx's certificate and no other."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


def _make_certificate(folder: Path) -> None:
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*argv, *names, *files], check=True, capture_output=True, timeout=60)


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def wait_for(port: int) -> None:
    """Until something listens there."""
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port}")
