"""The whole on real pools: witness, agents, ssh, zfs. After each, guids and contents are equal on all ends."""

from collections.abc import Iterator

import pytest

from tests.real_site import HAS_SSHD, HAS_ZFS, RealSite

pytestmark = pytest.mark.skipif(
    not (HAS_ZFS and HAS_SSHD), reason="needs root, sshd and a kernel with OpenZFS: it makes pools in files"
)
HUB = ("nas", "backup", "offsite")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealSite]:
    made = RealSite(tmp_path_factory.mktemp("site") / "site")
    for name in HUB:
        made.machine(name, f"real{name}")
    for machine in made.machines.values():
        for other in HUB:
            machine.let_in(other)
    yield made
    made.close()
    assert "Traceback" not in (made.folder / "witness.log").read_text()


def test_first_sync_then_increments(site: RealSite) -> None:
    with site.place(*HUB, hub="nas") as here:
        here.fill("media", "one", "two")
        here.fill("media/home videos", "one")
        here.report()
        here.run("nas")
        here.settled()
        here.same("media", common=2)
        here.same("media/home videos")
        here.fill("media", "three", "four")
        here.fill("media/home videos", "two")
        here.run("nas")
        here.settled()
        here.same("media", common=4)
        here.same("media/home videos", common=2)
