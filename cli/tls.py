"""A certificate of one's own, for a witness without a public name."""

import argparse
import base64
import hashlib
import ipaddress
import os
import socket
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.terminal import OpenWitness, Refusal, load_settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate

DAYS = 3650
CERT, KEY = "tls-cert.pem", "tls-key.pem"


def make_certificate(options: argparse.Namespace, open_witness: OpenWitness) -> int:
    """Write a certificate that vouches for itself, and say how to serve with it and how agents trust it.

    A key that is there already is used again: the certificate is new, and what agents have pinned stays right.
    """
    settings = load_settings(options)
    folder = settings.file.parent if settings.file is not None else Path.cwd()
    cert_file, key_file = settings.tls_cert or folder / CERT, settings.tls_key or folder / KEY
    names = list(dict.fromkeys([*options.names, socket.gethostname(), "localhost", "127.0.0.1", "::1"]))
    key = _read_key(key_file) if key_file.exists() else _write_key(key_file, settings.data_dir)
    try:
        cert_file.write_bytes(_pem(_certificate(key, names)))
    except OSError as error:
        raise Refusal(f"{cert_file}: {error.strerror}") from error
    print(f"for {', '.join(names)}, {DAYS // 365} years; the key is {key_file}, only for its owner", file=sys.stderr)
    print(f"# in zfs_sync.yaml\ntls_cert: {cert_file.absolute()}\ntls_key: {key_file.absolute()}")
    print("# in agent.conf of each host, with a copy of the certificate")
    print(f"ca_file = /etc/zfs-sync/{CERT}\npinned_key = {_pin(key)}")
    print(f"# with curl\n--cacert {cert_file.absolute()} --pinnedpubkey '{_pin(key)}'")
    return 0


def _write_key(file: Path, data_dir: Path) -> "EllipticCurvePrivateKey":
    """A new key on P-256, in a file of mode 0600 from its first byte on; made by root, it is whose the data are."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as out:
            out.write(pem)
        if hasattr(os, "geteuid") and os.geteuid() == 0 and data_dir.exists():
            os.chown(file, data_dir.stat().st_uid, -1)
    except OSError as error:
        raise Refusal(f"{file}: {error.strerror}") from error
    return key


def _read_key(file: Path) -> "EllipticCurvePrivateKey":
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise Refusal(f"{file}: this key cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Refusal(f"{file}: expected a key on an elliptic curve, as this command makes it")
    return key


def _certificate(key: "EllipticCurvePrivateKey", names: list[str]) -> "Certificate":
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    now = datetime.now(UTC)
    try:
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
    except ValueError as error:
        raise Refusal(f"expected names and addresses: {error}") from error
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks of hosts may be behind
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )


def _general_name(name: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: "Certificate") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _pin(key: "EllipticCurvePrivateKey") -> str:
    """What curl's --pinnedpubkey expects: SHA-256 over the public key, not over the certificate."""
    from cryptography.hazmat.primitives import serialization as form

    der = key.public_key().public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
    return f"sha256//{base64.b64encode(hashlib.sha256(der).digest()).decode()}"
