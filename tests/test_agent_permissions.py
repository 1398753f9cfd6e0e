"""doctor tells a user that is not root which permissions `zfs allow` has not given it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Host, Lab

GROUPS = """
groups:
  - name: everything
    hub: nas
    systems:
      nas: {root: tank/data}
      backup: {root: vault/nas}
  - name: pair
    systems:
      nas:
      backup:
  - name: spreading
    hub: nas
    delete: mirror
    systems:
      nas: {root: tank/www}
      backup: {root: vault/www}
  - name: mirrored
    hub: backup
    delete: mirror
    systems:
      backup: {root: vault/own}
      nas: {root: tank/copies/backup}
"""
IDS = "#!/bin/sh\ncase $1 in -u) echo 1001 ;; -un) echo repl ;; *) echo repl users ;; esac\n"
ALLOWED = """\
---- Permissions on tank/copies --------------------------------------
Create time permissions:
\tsend
Local permissions:
\tuser repl destroy
Local+Descendent permissions:
\tgroup users @receiving,rename
\tuser another send,hold,promote
---- Permissions on tank ---------------------------------------------
Permission sets:
\t@basic create,mount
\t@receiving @basic,receive
Descendent permissions:
\teveryone readonly,canmount
Local+Descendent permissions:
\tuser repl mountpoint
"""  # as OpenZFS 2.1 prints them


@pytest.fixture
def nas(tmp_path: Path) -> Iterator[Host]:
    """A host whose agent runs as repl, in the groups users and repl; tank/copies/backup is still to be made."""
    lab = Lab(tmp_path / "lab", GROUPS)
    host = lab.host("nas", "tank")
    lab.host("backup", "vault")
    host.change(lambda pools: [pools.create(name) for name in ("tank/data", "tank/copies")])
    host.agent("report")
    host.programs = tmp_path / "bin"
    host.programs.mkdir()
    (host.programs / "id").write_text(IDS)
    (host.programs / "id").chmod(0o755)
    yield host
    lab.stop()


def findings(host: Host, allowed: str, status: int) -> set[str]:
    """What doctor says about permissions."""
    (host.folder / "allowed").write_text(allowed)
    said = host.agent("doctor", status)
    return {line for line in said.splitlines() if "repl" in line}


def test_doctor_says_which_permissions_are_missing(nas: Host) -> None:
    assert findings(nas, ALLOWED, status=1) == {
        "bad:  repl lacks permissions to send on tank: zfs allow repl send,hold tank",
        "bad:  repl lacks permissions to send on tank/data: zfs allow repl send,hold tank/data",
        "bad:  repl lacks permissions to send on tank/www: zfs allow repl send,hold,bookmark,destroy tank",
        "good: repl may do on tank what is needed to receive",
        "good: repl may do on tank/copies/backup what is needed to receive",
        "bad:  repl lacks permissions to delete snapshots on tank/copies/backup: zfs allow repl destroy tank/copies",
        "note: repl may not drop what broke off or resolve conflicts on tank: "
        "zfs allow repl destroy,promote,rollback tank",
        "note: repl may not drop what broke off or resolve conflicts on tank/copies/backup: "
        "zfs allow repl destroy,promote,rollback tank/copies",
    }


def test_doctor_lets_sudo_and_root_do_as_they_may(nas: Host) -> None:
    nas.conf.write_text(nas.conf.read_text() + "zfs=env zfs\n")
    assert findings(nas, "", status=0) == set()
    nas.conf.write_text(nas.conf.read_text() + "zfs=zfs\n")
    (nas.programs / "id").write_text("#!/bin/sh\necho 0\n")
    assert findings(nas, "", status=0) == set()


def test_nothing_allowed_is_everything_missing(nas: Host) -> None:
    said = findings(nas, "", status=1)
    wanted = "receive,create,mount,readonly,canmount,mountpoint"
    assert f"bad:  repl lacks permissions to receive on tank: zfs allow repl {wanted} tank" in said
    assert not any(line.startswith("good") for line in said)
