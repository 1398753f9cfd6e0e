"""The installers, run on this machine's own file system with all writes kept apart from it (an overlay)."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkout import ROOT

# A layer over / that lives as long as the command: whatever is installed there is gone afterwards.
OVERLAY = """
set -e
mount -t tmpfs -o size=512m,mode=0755 apart "$1"
mkdir "$1/changes" "$1/work" "$1/root"
mount -t overlay apart -o "lowerdir=/,upperdir=$1/changes,workdir=$1/work" "$1/root"
mount --rbind /dev "$1/root/dev"
mount -t proc proc "$1/root/proc"
mkdir -p "$1/root$2" "$1/root/etc/cron.d"
mount --rbind "$2" "$1/root$2"
rm -rf "$1/root/run/systemd/system" "$1/root/opt/zfs-sync" "$1/root/etc/zfs-sync"
exec chroot "$1/root" sh -eu -c "$3"
"""

Machine = Callable[[str], str]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A function that runs a shell script on a machine of its own, as root; what it printed."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("needs root, for a mount namespace")

    def run(script: str) -> str:
        argv = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", OVERLAY, "sh", str(tmp_path), str(ROOT), script]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
        if "mount:" in done.stderr:
            pytest.skip(f"no overlay here: {done.stderr.strip().splitlines()[0]}")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def reachable(path: str) -> str:
    """A command that lets every user reach what stands there, in a home directory maybe."""
    return "chmod o+x " + " ".join(str(parent) for parent in Path(path).resolve().parents)


INSTALL = f"sh {ROOT}/deploy/install-witness.sh --python {sys.executable}"


def test_the_witness_is_installed_twice_upgraded_and_taken_away(machine: Machine) -> None:
    said = machine(f"""
        {reachable(sys.executable)}
        {INSTALL}
        echo 'port: 8765' >>/etc/zfs-sync/zfs_sync.yaml
        echo stale >/opt/zfs-sync/left-over
        {INSTALL} >/dev/null
        ls /opt/zfs-sync
        tail -n 1 /etc/zfs-sync/zfs_sync.yaml
        stat -c '%a %U %n' /etc/zfs-sync/zfs_sync.yaml /var/lib/zfs-sync-witness
        cd /opt/zfs-sync
        setpriv --reuid zfs-sync --regid zfs-sync --clear-groups \\
            .venv/bin/python zfs_sync.py check --config /etc/zfs-sync/zfs_sync.yaml
        sh {ROOT}/deploy/install-witness.sh --uninstall
        ls -d /opt/zfs-sync /etc/systemd/system/zfs-sync-witness.service 2>&1 || true
        ls /etc/zfs-sync
        sh {ROOT}/deploy/install-witness.sh --uninstall --purge
        ls -d /etc/zfs-sync /var/lib/zfs-sync-witness 2>&1 || true
        id zfs-sync 2>&1 || true
    """)
    assert "start it as the user zfs-sync" in said
    assert "left-over" not in said
    assert "port: 8765\n640 root /etc/zfs-sync/zfs_sync.yaml\n700 zfs-sync /var/lib/zfs-sync-witness\n" in said
    assert "cannot access '/opt/zfs-sync'" in said
    assert "cannot access '/etc/systemd/system/zfs-sync-witness.service'" in said
    assert "zfs_sync.yaml\nThe witness, its configuration and its data are gone." in said
    assert "cannot access '/var/lib/zfs-sync-witness'" in said
    assert "no such user" in said


def test_an_upgrade_that_does_not_start_changes_nothing(machine: Machine) -> None:
    said = machine(f"""
        {INSTALL} >/dev/null
        echo mine >/opt/zfs-sync/mark
        sh {ROOT}/deploy/install-witness.sh --python /bin/false 2>&1 || echo refused
        cat /opt/zfs-sync/mark
    """)
    assert "install-witness: the program does not start; nothing was changed\nrefused\nmine\n" in said


def test_the_agent_is_installed_twice_and_taken_away(machine: Machine) -> None:
    said = machine(f"""
        sh {ROOT}/deploy/install-agent.sh --witness http://127.0.0.1:8000
        grep ^witness /etc/zfs-sync/agent.conf
        echo 'hostname = mine' >>/etc/zfs-sync/agent.conf
        sh {ROOT}/deploy/install-agent.sh --witness http://127.0.0.1:9000 >/dev/null
        grep -e ^witness -e ^hostname /etc/zfs-sync/agent.conf
        stat -c '%a %n' /usr/local/sbin/zfs-sync-agent /etc/zfs-sync/agent.conf
        stat -c '%a %n' /var/lib/zfs-sync /etc/cron.d/zfs-sync-agent
        sh {ROOT}/deploy/install-agent.sh --uninstall
        ls /usr/local/sbin/zfs-sync-agent /etc/cron.d/zfs-sync-agent 2>&1 || true
        sh {ROOT}/deploy/install-agent.sh --uninstall --purge
        ls -d /etc/zfs-sync /var/lib/zfs-sync 2>&1 || true
    """)
    assert said.count("witness = http://127.0.0.1:8000\n") == 2
    assert "hostname = mine\n755 /usr/local/sbin/zfs-sync-agent\n600 /etc/zfs-sync/agent.conf\n" in said
    assert "700 /var/lib/zfs-sync\n644 /etc/cron.d/zfs-sync-agent\n" in said
    for gone in ("/usr/local/sbin/zfs-sync-agent", "/etc/cron.d/zfs-sync-agent", "/etc/zfs-sync", "/var/lib/zfs-sync"):
        assert f"cannot access '{gone}'" in said


@pytest.mark.parametrize("address", ["ftp://nas", "http://nas|e reboot", "http://nas\nx = y", "nas:8000"])
def test_the_agent_takes_nothing_but_an_address_for_the_witness(machine: Machine, address: str) -> None:
    said = machine(f"""
        sh {ROOT}/deploy/install-agent.sh --witness '{address}' 2>&1 || ls /etc/zfs-sync 2>&1 || echo none
    """)
    assert "install-agent: --witness: " in said
    assert said.endswith("none\n")
