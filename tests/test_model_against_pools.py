"""The model of ZFS agrees with real pools, where there are any; everywhere, a difference is noticed."""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.model_against_pools import COLUMNS, POOLS, Model, Pairs, compare, differences, kind
from tests.random_operations import Random, Transfer, beginning, choose
from tests.zfs_model import Pools
from tests.zfs_values import Refused

HAS_ZFS = os.path.exists("/dev/zfs") and os.geteuid() == 0 and shutil.which("zpool", path="/usr/sbin:/sbin") is not None


@pytest.mark.skipif(not HAS_ZFS, reason="needs root and a kernel with OpenZFS: it makes pools in files")
@pytest.mark.parametrize("seed", range(3))
def test_model_and_pools_agree(seed: int, tmp_path: Path) -> None:
    assert compare(seed, tmp_path, 30, Counter()) == ""


def models() -> Model:
    """Both models, with their pools."""
    model = Model({pool: Pools((1, pool)) for pool in POOLS})
    for pool in POOLS:
        model.hosts[pool].create(pool)
    return model


def test_random_operations_transfer_in_every_way() -> None:
    seen: Counter[str] = Counter()
    for seed in range(60):
        random, model = Random(seed), models()
        operations = [*beginning(random), *[None] * 30]
        for given in operations:
            operation = given or choose(random, model.hosts)
            try:
                model.do(operation)
            except Refused as refused:
                seen[kind(str(refused))] += 1
            else:
                seen[operation.what.split(" ")[1] if isinstance(operation, Transfer) else operation.verb] += 1
    done = {"full", "-i", "-I", "resume", "abort", "promote", "rollback", "rename", "bookmark", "load_key"}
    refused = {"written to", "no common base", "name taken", "target exists", "absent", "partial", "cut", "key"}
    assert done | refused <= set(seen)
    assert not [words for words in seen if len(words) > 20]  # every refusal has its kind


def test_a_difference_is_noticed() -> None:
    ours = models().listing()
    for column in ("written", "userrefs", "origin", "encryption", "receive_resume_token"):
        at = COLUMNS.index(column)
        rows = [line.split("\t") for line in ours.splitlines()]
        rows[1][at] = {"written": "0", "receive_resume_token": "1-a-b-c"}.get(column, "other")
        theirs = "".join("\t".join(row) + "\n" for row in rows)
        (found,) = differences(ours, theirs, Pairs())
        assert found.startswith(f"modelb: {column} is ")
    assert differences(ours, ours.replace("modelb", "modelc"), Pairs())


def test_a_guid_stands_for_one_other_only() -> None:
    guids = Pairs()
    assert guids.match("1", "100")
    assert guids.match("2", "200")
    assert guids.match("1", "100")
    assert not guids.match("1", "200")
    assert not guids.match("3", "100")
    assert not guids.match("-", "100")
