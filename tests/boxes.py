"""Three boxes for tests of the API: a NAS, a backup and an offsite copy, with what real pools listed."""

import re
from dataclasses import dataclass
from typing import Any

from tests.witness import TSV, Agent, Client, client_of

MEDIA = """\
  - name: media
    hub: nas
    systems:
      nas: {root: tank}
      backup: {root: vault/nas}
      offsite: {root: pool1/replica}
"""


@dataclass(frozen=True, slots=True)
class Boxes:
    """The witness's API, the boxes' agents, and the id of the group that they are in."""

    client: Client
    nas: Agent
    backup: Agent
    offsite: Agent
    group: str

    def plan(self, by: Client | None = None, **query: str) -> Any:
        """The group's instructions."""
        path = f"/sync/{self.group}/instructions" + "".join(f"?{name}={value}" for name, value in query.items())
        return (by or self.client).get(path)

    def action(self, target_dataset: str, action_type: str | None = None) -> Any:
        """The first planned action into a dataset."""
        for action in self.plan()["actions"]:
            if action["target_dataset"] == target_dataset and action_type in (None, action["action_type"]):
                return action
        raise AssertionError(f"no action into {target_dataset}")

    def agent_of(self, system_id: str) -> Agent:
        """The agent of a system."""
        return next(agent for agent in (self.nas, self.backup, self.offsite) if agent.id == system_id)


def real_boxes(make_witness: Any, groups: str = MEDIA, **settings: Any) -> Boxes:
    """The boxes with the listings of real pools, reported just now."""
    boxes = empty_boxes(make_witness, groups, **settings)
    for agent in (boxes.nas, boxes.backup, boxes.offsite):
        agent.report_file(agent.hostname)
    return boxes


def empty_boxes(make_witness: Any, groups: str = MEDIA, **settings: Any) -> Boxes:
    """The boxes, registered, and with nothing reported yet."""
    client = client_of(make_witness(groups, **settings))
    nas, backup, offsite = (client.register(name, ssh_user="root") for name in ("nas", "backup", "offsite"))
    return Boxes(client, nas, backup, offsite, client.get("/sync-groups")[0]["id"])


COLUMNS = (
    "name,type,guid,createtxg,creation,used,referenced,written,encryption,receive_resume_token,origin,"
    "readonly,mounted,mountpoint,available,userrefs"
)
_MARK = re.compile(r"([a-z]?)(\d+)(X?)")


def listing(*histories: str) -> str:
    """Raw listings with COLUMNS. "tank/a: a1 a2 a3X +9" has the snapshots s1, s2 and s3: letter and number stand for
    the guid, X for one that only this dataset has, with data; 9 bytes were written since."""
    lines = []
    for history in histories:
        dataset, _, marks = history.partition(":")
        written = next((mark[1:] for mark in marks.split() if mark[0] == "+"), "0")
        guid = sum(dataset.encode()) * 10**6
        lines.append(
            f"{dataset}\tfilesystem\t{guid}\t1\t1700000000\t4096\t4096\t{written}\toff\t-\t-"
            f"\ton\tyes\t/{dataset}\t1000000000\t-"
        )
        for place, (letter, number, own) in enumerate(_MARK.findall(marks.partition("+")[0]), 10):
            guid = guid_of(letter + number) + (sum(dataset.encode()) * 1000 if own else 0)
            lines.append(
                f"{dataset}@s{number}\tsnapshot\t{guid}\t{place}\t{1700000000 + int(number) * 3600}"
                f"\t1000\t{int(number) * 1000}\t1000\toff\t-\t-\t-\t-\t-\t-\t0"
            )
    return "".join(f"{line}\n" for line in lines)


def guid_of(mark: str) -> int:
    """The guid that a mark like "a1" stands for in a listing."""
    letter, number, _ = _MARK.fullmatch(mark).groups()  # type: ignore[union-attr]
    return int(number) + (ord(letter) * 1000 if letter else 0)


def tsv(client: Client, path: str) -> Any:
    """The tab-separated form of something."""
    return client.call("GET", path, headers={"Accept": TSV})
