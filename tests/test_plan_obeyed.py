"""Plans obeyed by model pools: what is planned is never refused, loses nothing, and ends with everybody in sync."""

from contextlib import suppress
from dataclasses import replace

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from planner import plan_group
from planner.model import Bookmark, Credit, Member, Plan, Policy, Step, Work
from tests.listings import member_of
from tests.zfs_model import COLUMNS, Pools, Refused

ALL_COLUMNS = (*COLUMNS, "available", "userrefs", "readonly", "mounted", "mountpoint", "ivsetguid")
START = 1_795_000_000
HUB = Policy("g", "group", directional=True, hub="A", order=("A", "B", "C"), include=("*/**",), grace_s=600)
PEERS = replace(HUB, directional=False, hub=None)
PATHS = ("data", "data/kid", "secret")
Hosts = dict[str, Pools]


def hosts_of() -> Hosts:
    hosts = {name: Pools(name, START) for name in "ABC"}
    for name, pools in hosts.items():
        pools.create(f"pool{name}")
        pools.create(f"pool{name}/root", properties={"readonly": "on"})
    return hosts


def report(hosts: Hosts, now: float) -> list[Member]:
    """What every host's agent would report."""
    return [
        member_of(name, pools.listing(ALL_COLUMNS), f"pool{name}/root", now, ALL_COLUMNS)
        for name, pools in hosts.items()
    ]


def obey(step: Step, hosts: Hosts, cut: int | None = None) -> None:
    """Carry a step out as an agent does: by name, after comparing the guids it was given."""
    target, name = hosts[step.target], step.target_dataset
    match step.type:
        case "create" | "sync" | "resume":
            check_guids(step, hosts)
            source = hosts[step.source or ""]
            assert step.end is not None
            if step.type == "resume":
                stream = source.resume(step.resume_token or "")
            else:
                base = None if step.base is None else ("#" if isinstance(step.base, Bookmark) else "@") + step.base.name
                stream = source.send(
                    step.source_dataset or "",
                    step.end.name,
                    base,
                    intermediates=step.intermediates,
                    raw=step.raw,
                    embedded=step.embedded,
                )
            stream = stream if cut is None else stream.cut(cut)
            target.receive(name, stream, resumable=True, properties={"readonly": "on"})
        case "create_parent":
            target.create(name, properties=dict(step.properties))
        case "abort_receive":
            target.abort(name)
        case _:
            raise AssertionError(f"{step.type} has no place in an ordinary plan")


def check_guids(step: Step, hosts: Hosts) -> None:
    """What a transfer was judged by is still so."""
    source, target = hosts[step.source or ""], hosts[step.target]
    assert step.end is not None
    assert source.find(f"{step.source_dataset}@{step.end.name}").guid == step.end.guid
    if step.base is not None:
        assert target.guids(step.target_dataset)[-len(step.expected_guids) :] == list(step.expected_guids)
        assert target.written(step.target_dataset) == step.expected_written


def contents(hosts: Hosts) -> set[tuple[str, str, object]]:
    """Every snapshot on every host, and what datasets hold now."""
    kept: set[tuple[str, str, object]] = set()
    for name, pools in hosts.items():
        for dataset in pools.datasets.values():
            kept |= {(name, snap.guid, snap.blocks) for snap in dataset.snapshots}
            kept |= {(name, dataset.name, block) for block in dataset.blocks}
    return kept


# --- mishaps ---------------------------------------------------------------------------------------

DEEDS = ("write", "snapshot", "local", "prune", "bookmark", "rename", "grow", "hold")
deeds = st.tuples(st.sampled_from(DEEDS), st.sampled_from("AAABC"), st.sampled_from(PATHS), st.integers(0, 9))


def do(hosts: Hosts, deed: str, name: str, path: str, number: int) -> None:
    """One thing that people and their tools do. What ZFS refuses is not done."""
    pools = hosts[name]
    dataset = f"pool{name}/root/{path}"
    pools.now += 60
    if dataset in pools.datasets and pools.dataset(dataset).newborn:
        return  # nobody can use what has not arrived
    try:
        match deed:
            case "grow":
                pools.create(dataset, encryption="aes-256-gcm" if path == "secret" else None)
            case "write":
                pools.write(dataset, 100 + number)
            case "snapshot":
                pools.snapshot(dataset, f"auto-{pools.txg}-{name}")
            case "local":
                pools.snapshot(dataset, f"hourly-{number}")
            case "prune":
                pools.destroy_snapshots(dataset, [pools.dataset(dataset).snapshots[0].name])
            case "bookmark":
                pools.bookmark(dataset, pools.dataset(dataset).snapshots[-1].name, f"mark-{pools.txg}")
            case "rename":
                pools.rename_snapshot(dataset, pools.dataset(dataset).snapshots[-1].name, f"renamed-{pools.txg}")
            case "hold":
                pools.hold(dataset, pools.dataset(dataset).snapshots[-1].name, f"tag-{pools.txg}")
    except (Refused, IndexError):
        pass


def settle(hosts: Hosts, policy: Policy) -> Plan:
    """Report, plan and obey until the plan is empty."""
    now = START + 10_000.0
    for _ in range(12):
        plan = plan_group(policy, report(hosts, now), Work(), now)
        if not plan.steps:
            return plan
        for step in plan.steps:
            obey(step, hosts)
    raise AssertionError("the plan never comes to an end")


def check_settled(plan: Plan, policy: Policy, hosts: Hosts) -> None:
    """Equal guids are equal contents, and who is in sync has the source's newest snapshot."""
    seen: dict[str, object] = {}
    for pools in hosts.values():
        for dataset in pools.datasets.values():
            for snap in dataset.snapshots:
                assert seen.setdefault(snap.guid, snap.blocks) == snap.blocks
    sources = {cell.path: cell for cell in plan.cells if cell.is_source}
    for cell in plan.cells:
        told = any(s.path == cell.path and s.target == cell.system_id for s in plan.skips)
        assert cell.status == "in_sync" or told or cell.path not in sources, "what is not in sync has a reason"
        source = sources.get(cell.path)
        if cell.status == "in_sync" and source is not None:
            held = hosts[source.system_id].dataset(source.dataset).snapshots
            wanted = [s for s in held if not (policy.snapshot_exclude and s.name.startswith("hourly-"))]
            assert all(s.guid in hosts[cell.system_id].guids(cell.dataset) for s in wanted[-1:])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(deeds, max_size=30),
    st.lists(deeds, max_size=12),
    st.sampled_from([HUB, PEERS, replace(HUB, transfer="pull"), replace(HUB, initial="newest")]),
    st.sampled_from([(), ("hourly-*",)]),
)
def test_pools_accept_every_plan(
    before: list[tuple[str, str, str, int]],
    after: list[tuple[str, str, str, int]],
    policy: Policy,
    excluded: tuple[str, ...],
) -> None:
    policy = replace(policy, snapshot_exclude=excluded)
    hosts = hosts_of()
    for path in PATHS:
        do(hosts, "grow", "A", path, 0)
    for some in (before, after):
        for deed in some:
            do(hosts, *deed)
        had = contents(hosts)
        plan = settle(hosts, policy)
        assert had <= contents(hosts), "an ordinary plan only adds"
        check_settled(plan, policy, hosts)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(deeds, max_size=30), st.sampled_from([HUB, PEERS]), st.data())
def test_steps_that_finished_count_before_the_next_report(
    before: list[tuple[str, str, str, int]], policy: Policy, data: st.DataObject
) -> None:
    hosts = hosts_of()
    for path in PATHS:
        do(hosts, "grow", "A", path, 0)
    for deed in before:
        do(hosts, *deed)
    now = START + 10_000.0
    members, work = report(hosts, now), Work()
    for _ in range(60):
        now += 1
        if data.draw(st.booleans(), label="everybody reports"):
            members = report(hosts, now)
        plan = plan_group(policy, members, work, now)
        first = next((step for step in plan.steps if not step.depends_on), None)
        if first is None:
            break
        obey(first, hosts)
        now += 1
        work = replace(work, credits=(*work.credits, Credit(first, first.delivers, now)))
    else:
        raise AssertionError("the plan never comes to an end")
    assert all(s.depends_on for s in plan.steps)
    assert plan.steps == ()


NEITHER_END = [("snapshot", "A", "data", 0), ("prune", "A", "data", 0)]  # of a stream that was to bring the first


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(deeds, max_size=30), st.lists(deeds, max_size=5), st.integers(0, 3), st.integers(0, 5))
@example([], [("grow", "B", "data/kid", 0), *NEITHER_END], 0, 0)
def test_a_transfer_that_breaks_off_is_continued_or_dropped(
    before: list[tuple[str, str, str, int]], after: list[tuple[str, str, str, int]], cut: int, which: int
) -> None:
    hosts = hosts_of()
    for path in PATHS:
        do(hosts, "grow", "A", path, 0)
        do(hosts, "snapshot", "A", path, 0)
    for deed in before:
        do(hosts, *deed)
    transfers = [s for s in plan_group(HUB, report(hosts, START), Work(), START).steps if s.type in ("create", "sync")]
    transfers = [step for step in transfers if not step.depends_on]
    if transfers:
        with suppress(Refused):
            obey(transfers[which % len(transfers)], hosts, cut)
    for deed in after:
        do(hosts, *deed)
    had = contents(hosts)
    plan = settle(hosts, HUB)
    assert had <= contents(hosts)
    check_settled(plan, HUB, hosts)
