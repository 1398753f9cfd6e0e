"""Real listings from three pools on OpenZFS 2.1, and what those pools then accepted and refused."""

from dataclasses import replace

import pytest

from planner import plan_group
from planner.model import Bookmark, Member, Plan, Policy, Replica, Work
from planner.resume import decode_resume_token
from tests.listings import DATA, member_of

NOW = 1_795_360_000.0
POLICY = Policy("g", "media", directional=True, hub="nas", order=("nas", "backup", "offsite"), grace_s=600)
ROOTS = {"nas": "tank", "backup": "vault/nas", "offsite": "pool1/replica"}


def members() -> list[Member]:
    return [member_of(name, (DATA / f"{name}.tsv").read_text(), root, NOW) for name, root in ROOTS.items()]


def with_iv_sets(member: Member, path: str, iv_set: str) -> Member:
    """The member, had its agent reported ivsetguid for one dataset."""
    name = f"{member.root}/{path}"
    held = member.replicas[name]
    marked = tuple(replace(s, ivsetguid=f"{iv_set}{s.guid}") for s in held.snapshots)
    return replace(member, replicas={**member.replicas, name: replace(held, snapshots=marked)})


PLAN = plan_group(POLICY, members(), Work(), NOW)


def story(path: str, target: str, plan: Plan = PLAN) -> str:
    """What a plan does to one dataset on one member."""
    told = []
    for step in plan.steps:
        if (step.path, step.target) == (path, target):
            mark = "#" if isinstance(step.base, Bookmark) else ""
            base = f"{mark}{step.base.name} to " if step.base else ""
            told.append(f"{step.type} {base}{step.end.name if step.end else ''}{' raw' if step.raw else ''}")
    told += [f"skip: {skip.reason}" for skip in plan.skips if (skip.path, skip.target) == (path, target)]
    told += [
        f"{conflict.type}, {conflict.severity}"
        for conflict in plan.conflicts
        if conflict.path == path and conflict.type != "missing"
    ]
    return "; ".join(told)


# each line of tried-on-the-pools.tsv, and what the plan says of it
TRIED = {
    "photos -> backup, increment 02..03 over a harmless local snapshot": (
        "media/photos",
        "backup",
        "sync daily-2026-11-02 to daily-2026-11-03",
    ),
    "docs -> backup, increment from the renamed base": (
        "docs",
        "backup",
        "sync daily-2026-11-02 to hourly-2026-11-03_13; diverged, high",  # what diverged is offsite's
    ),
    "mail -> backup, increment from the bookmark": ("mail", "backup", "sync #keep02 to daily-2026-11-03"),
    "www -> backup, increment on a diverged target": (
        "www",
        "backup",
        "skip: vault/nas/www on backup was written to since daily-2026-11-02, the last it shares: see the conflict; "
        "diverged, high",
    ),
    "docs -> offsite, increment on a written target": (
        "docs",
        "offsite",
        "skip: pool1/replica/docs on offsite was written to since daily-2026-11-03, the last it shares: "
        "see the conflict; diverged, high",
    ),
    "git -> backup, full onto an unrelated dataset": (
        "git",
        "backup",
        "skip: vault/nas/git on backup has no snapshot in common with nas: see the conflict; orphaned, high",
    ),
    "home videos -> backup, resume": (
        "media/home videos",
        "backup",
        "resume daily-2026-11-03 to daily-2026-11-04",
    ),
    "secret -> backup, raw increment": (
        "secret",
        "backup",
        "skip: whether vault/nas/secret was received raw is not known: both agents must report the column ivsetguid, "
        "or the group must say raw: always or raw: never",
    ),
    "disk1 -> backup, volume increment": ("vm/disk1", "backup", "sync daily-2026-11-02 to daily-2026-11-03"),
    "cache -> backup, increment": ("media/cache", "backup", "sync daily-2026-11-02 to daily-2026-11-03"),
    "mail -> offsite, full of the oldest left": ("mail", "offsite", "create daily-2026-11-03"),
    "pool root -> offsite, full": (
        "",
        "offsite",
        "skip: pool1/replica exists on offsite without any snapshot, so a full stream can't be received there: "
        "rename it (what lies below moves along, and gets its name back afterwards), and it will be made anew; "
        "or give the member another root",
    ),
}


@pytest.mark.parametrize("line", (DATA / "tried-on-the-pools.tsv").read_text().splitlines())
def test_the_plan_agrees_with_what_the_pools_did(line: str) -> None:
    attempt, _, result = line.partition("\t")
    path, target, told = TRIED[attempt]
    assert story(path, target) == told
    planned = any((step.path, step.target) == (path, target) for step in PLAN.steps)
    if path != "secret":  # accepted there; the listing alone can't tell that it would be
        assert planned == (result == "accepted")


def test_with_iv_sets_the_raw_increment_is_planned() -> None:
    nas, backup, offsite = members()
    same = [with_iv_sets(nas, "secret", "iv"), with_iv_sets(backup, "secret", "iv"), offsite]
    plan = plan_group(POLICY, same, Work(), NOW)
    assert story("secret", "backup", plan) == "sync daily-2026-11-02 to daily-2026-11-03 raw"
    assert story("secret", "backup", plan_group(replace(POLICY, raw="always"), members(), Work(), NOW)).endswith("raw")


def test_the_real_token_names_what_the_plan_continues() -> None:
    (step,) = [step for step in PLAN.steps if step.type == "resume"]
    token = decode_resume_token(step.resume_token or "")
    assert token is not None
    assert step.end is not None
    assert (token.to_name, token.to_guid) == (f"{step.source_dataset}@{step.end.name}", step.end.guid)
    assert step.estimated_size_bytes == (step.end.written or 0) - token.bytes_done


def test_everything_is_in_sync_or_has_a_reason() -> None:
    steps = {(step.path, step.target) for step in PLAN.steps}
    skips = {(skip.path, skip.target) for skip in PLAN.skips}
    for cell in PLAN.cells:
        known = (cell.path, cell.system_id)
        assert (cell.status == "in_sync") != (known in steps or known in skips)
    assert len(PLAN.cells) == 3 * 13, "each of the hub's thirteen datasets on each member"


def test_a_volume_and_names_with_spaces_are_planned_like_others() -> None:
    (disk,) = [step for step in PLAN.steps if (step.path, step.target) == ("vm/disk1", "backup")]
    assert disk.kind == "volume"
    (videos,) = [step for step in PLAN.steps if (step.path, step.target) == ("media/home videos", "offsite")]
    assert videos.target_dataset == "pool1/replica/media/home videos"


def test_a_raw_stream_is_never_embedded_and_others_are_where_nothing_is_encrypted() -> None:
    assert {(step.raw, step.embedded) for step in PLAN.steps if step.type in ("create", "sync")} == {
        (True, False),
        (False, True),
    }
    assert {step.path for step in PLAN.steps if step.raw} == {"secret"}


def test_the_listings_are_read_whole() -> None:
    replicas: list[Replica] = [replica for member in members() for replica in member.replicas.values()]
    assert sum(len(replica.snapshots) for replica in replicas) == 76
    assert sum(len(replica.bookmarks) for replica in replicas) == 1
