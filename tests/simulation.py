"""The whole of ZFS Sync in one process and from one seed: hosts, faults, people, the real store, handlers and planner.

    python -m tests.simulation --seeds 100000 --first 0 [--postgresql]

Each seed is a world of 2 to 8 hosts in which agents run, crash, and lose and repeat messages, while people and their
tools write, snapshot, prune, roll back, rename and destroy. What must hold at each step is in simulated_rules. Then the
faults stop, and what can converge must:

- agents run in turn, hours apart, and within ROUNDS turns nobody has anything left to do;
- whoever is still behind then could not follow: no member has a stream that the pools would accept, in the form that
  the group allows (everything is tried on a copy);
- once a person has taken new snapshots on the leading members and decided each conflict for them, keeping or
  letting go what the others had, everybody is in sync but for what REASONS names.
"""

import argparse
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import partial
from unittest.mock import patch
from uuid import UUID

from planner.model import Conflict, Plan
from store import Store
from tests.postgres_server import Server, server
from tests.simulated_hosts import Host
from tests.simulated_mishaps import administer, befall, grow, prune, prune_what_is_free
from tests.simulated_rules import check_contents, check_plan, check_settled, keep_apart, keep_data, keep_needed
from tests.simulated_world import DAY, HOUR, Group, World
from tests.zfs_model import Refused

ROUNDS = 12
DECISIONS = 6  # times that the person looks
APART = ".empty"  # in the name of what a person has put out of the way
REASONS = (
    "the hub, has no",  # it is for a person to say whether it should
)


def simulate(seed: int, store: Store | None = None) -> Counter[str]:
    """One world, with an empty store or one in memory; answers what happened in it. Raises AssertionError for what must
    not be."""
    ids = random.Random(f"ids {seed}")
    try:
        with patch("uuid.uuid4", lambda: UUID(int=ids.getrandbits(128), version=4)):
            return _lived(World(seed, store))
    except BaseException as error:
        error.add_note(f"python -m tests.simulation --first {seed} --seeds 1")
        raise


def _lived(world: World) -> Counter[str]:
    world.watcher = partial(keep_data, world)
    world.pruned = partial(keep_needed, world)
    world.fetched = lambda: world.dice.random() < 0.2 and check_plan(world, world.dice.choice(world.groups))
    world.leased = partial(keep_apart, world)
    begin(world)
    live(world)
    calm(world)
    rest(world)
    tidy(world)
    world.close()
    return world.tally


def begin(world: World) -> None:
    """Data on the first host, and some of it on others."""
    first = next(iter(world.hosts.values()))
    depth = first.root.count("/") + 1
    for name in ("/".join(first.root.split("/")[:parts]) for parts in range(2, depth + 1)):
        if name not in first.pools.datasets:
            first.pools.create(name)
    for _ in range(6):
        with suppress(Refused):
            grow(world, first, first.pools, "")
    for host in world.hosts.values():
        if world.dice.random() < 0.7:
            run(world, host, 60)


def live(world: World) -> None:
    """Things happen, one after the other, while agents run."""
    dice = world.dice
    for _ in range(dice.randrange(10, 100)):
        match dice.randrange(20):
            case 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7:
                befall(world)
            case 8:
                administer(world)
            case 9:
                world.crash(dice.choice(list(world.hosts.values())))
            case _:
                run(world, dice.choice(list(world.hosts.values())), dice.randrange(1, 25))
        world.set_time(world.now + dice.choice((1, 60, HOUR, HOUR, 8 * HOUR, dice.choice((DAY, 10 * DAY, 90 * DAY)))))


def run(world: World, host: Host, steps: int) -> None:
    """An agent gets on by some steps, at most to the end of its run."""
    for _ in range(steps):
        world.step_run(host)
        if host.run is None:
            break


def calm(world: World) -> None:
    """The faults stop: every host is up, with its disks and a clock that is right, and no agent is in a run."""
    world.faulty = False
    world.close()
    for host in world.hosts.values():
        host.up = True
        host.pools.capacity.clear()
        if host.shelf:
            host.shelf, host.pools.datasets = {}, host.shelf
        host.changes += 1
        host.pools.now = int(world.now)
    for group in world.groups:
        everything = {**group.options["datasets"], "exclude": []}
        nobody: dict[str, list[str]] = {"systems": [], "datasets": []}
        world.change_group(group, enabled=True, window=None, paused=nobody, datasets=everything)
    world.set_time(world.now + 3 * DAY)


def rest(world: World) -> list[Plan]:
    """What is left when agents have nothing left to do: nobody lacks what a pool would accept."""
    plans = settle(world)
    check_contents(world)
    for group, plan in zip(world.groups, plans, strict=True):
        check_settled(world, group, plan)
    return plans


def settle(world: World) -> list[Plan]:
    """Agents run in turn until nothing is left to do."""
    for at in range(ROUNDS):
        for host in world.hosts.values():
            if at == ROUNDS // 2:
                load_keys(host)
            if world.heartbeat(host) == "stale" or not host.known:
                world.report(host)
        plans = [check_plan(world, group) for group in world.groups]
        executors = {step.executor for plan in plans for step in plan.steps}
        if not executors:
            return plans
        for host in world.hosts.values():
            if host.system_id in executors:
                world.start_run(host).finish()
                host.run = None
                world.set_time(world.now + HOUR)
        world.set_time(world.now + 7 * HOUR)
    raise AssertionError(f"it never comes to rest: {[plan.steps[:2] for plan in plans]}")


def load_keys(host: Host) -> None:
    """What waits for the key of something encrypted above it can go on."""
    for kept in host.pools.datasets.values():
        kept.key_loaded = True


def tidy(world: World) -> None:
    """A person accepts what is lost, takes snapshots on the leading members, and decides every conflict for them."""
    for group in world.groups:
        world.change_group(group, on_conflict="manual")
    for _ in range(DECISIONS):
        world.accept()
        for group in world.groups:  # what the first group brings, the second may pass on
            decide_all(world, group)
        left = [
            line for group, plan in zip(world.groups, rest(world), strict=True) for line in unexplained(group, plan)
        ]
        tools_prune(world)
        rest(world)
        if not left:
            return
    raise AssertionError("still not in sync:\n" + "\n".join(left))


def decide_all(world: World, group: Group) -> None:
    """What a person does who follows each advice."""
    hub = group.options["hub_system_id"]
    for cell in world.plan(group).cells:
        host = world.hosts[cell.system_id]
        if cell.is_source:
            take_snapshot(world, group, host, cell.dataset)
        elif found := re.search(r"while (\S+) lies below it", cell.why):
            put_apart(world, host, found[1], cell.dataset)
        elif ("it will be made anew" in cell.why or "rename or destroy it" in cell.why) and APART not in cell.path:
            put_apart(world, host, cell.dataset, cell.dataset)
    rename_as_told(world, group)
    for decision in world.inputs(group)[2].decisions:  # one taken before may wait for something new to send
        if decision.winner is not None:
            winner = world.hosts[decision.winner]
            take_snapshot(world, group, winner, winner.dataset(decision.path))
    world.set_time(world.now + 3 * HOUR)
    settle(world)
    for conflict in world.plan(group).conflicts:
        if conflict.type != "missing" and conflict.status != "pending":
            sides = [side.system_id for side in conflict.sides]
            winner = world.hosts[hub if hub in sides else world.dice.choice(sides)]
            take_snapshot(world, group, winner, winner.dataset(conflict.path))
            world.report(winner)
            for current in world.plan(group).conflicts:  # that snapshot may have changed the evidence, and so the id
                if current.path == conflict.path and current.type != "missing":
                    decide(world, current, winner)
    world.set_time(world.now + 3 * HOUR)


def put_apart(world: World, host: Host, name: str, beside: str) -> None:
    """A dataset gets a name beside another that nobody goes by."""
    world.count += 1
    with suppress(Refused):
        host.pools.rename(name, f"{beside}{APART}{world.count}")
        host.changes += 1


def decide(world: World, conflict: Conflict, winner: Host) -> None:
    """By one of the rules, if that can decide here, or else for a winner."""
    letting_go = conflict.type == "diverged" and world.dice.random() < 0.4
    rule = world.dice.choice(("manual", "manual", "manual", "use_newest", "use_largest", "use_majority"))
    if rule == "manual" or not world.resolve(conflict.id, conflict.path, rule, None, discard=letting_go):
        world.resolve(conflict.id, conflict.path, "manual", winner.system_id, discard=letting_go)


def rename_as_told(world: World, group: Group) -> None:
    """What one member has under another name gets the name that the plan says, one after the other."""
    for _ in range(10):
        told = (
            re.search(r"as with zfs rename (\S+) (\S+) on (\S+), and", skip.reason) for skip in world.plan(group).skips
        )
        hosts = {host.name: host for host in world.hosts.values()}
        for advice in filter(None, told):
            host = hosts[advice[3]]
            with suppress(Refused):
                host.pools.rename(advice[1], advice[2])
                host.changes += 1
                world.report(host)
                world.note("renamed as told")
                break
        else:
            return


def tools_prune(world: World) -> None:
    """The oldest snapshots go where they were made, and elsewhere, and new ones come."""
    for host, _, name in list(world.replicas()):
        leads = host.system_id == world.groups[0].options["hub_system_id"]
        if ".aside-" not in name and (leads or world.dice.random() < 0.2):
            with suppress(Refused, IndexError):
                prune(world, host, host.pools, name)
            host.changes += 1
            if leads:
                take_snapshot(world, world.groups[0], host, name)
    if world.dice.random() < 0.5:
        prune_what_is_free(world)
    world.set_time(world.now + 3 * HOUR)


def take_snapshot(world: World, group: Group, host: Host, name: str) -> None:
    """One that every group chooses; not where another group brings them."""
    if any(host.system_id in other.hosts and follows_hub(other, host) for other in world.groups if other is not group):
        return
    world.count += 1
    with suppress(Refused):
        host.pools.snapshot(name, f"auto-{world.count}")
        host.changes += 1


def follows_hub(group: Group, host: Host) -> bool:
    """Whether a host is a spoke of a group, although it may be the hub of another."""
    return group.options["hub_system_id"] not in (None, host.system_id)


def unexplained(group: Group, plan: Plan) -> list[str]:
    """What is not in sync, without one of the reasons that are left to people. Nothing takes the place of a pool."""
    hub = group.options["hub_system_id"]
    pools = {cell.path for cell in plan.cells if cell.system_id == hub and "/" not in cell.dataset and not cell.newest}
    return [
        f"{group.name}: {cell.path} on {cell.dataset}: {cell.status} {cell.why}"
        for cell in plan.cells
        if cell.status != "in_sync"
        and "/" in cell.dataset
        and APART not in cell.path
        and cell.path not in pools
        and not any(words in cell.why for words in REASONS)
    ]


@contextmanager
def _store_in(database: Server | None) -> Iterator[Store | None]:
    """An empty store in a schema of its own; None without a database."""
    if database is None:
        yield None
        return
    with closing(Store.open(database.address(database.new_schema()), secret="s" * 32)) as store:
        yield store


def main() -> int:
    """Run seeds one after the other, and name those that fail."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first that fails")
    parser.add_argument("-v", "--verbose", action="store_true", help="count what happened")
    parser.add_argument("--postgresql", action="store_true", help="keep each world's store there, not in memory")
    options = parser.parse_args()
    started, failed, tally = time.monotonic(), 0, Counter[str]()
    with server() if options.postgresql else nullcontext() as database:
        for seed in range(options.first, options.first + options.seeds):
            try:
                with _store_in(database) as store:
                    tally += simulate(seed, store)
            except Exception as error:
                failed += 1
                print(f"seed {seed}: {type(error).__name__}: {str(error)[:1500]}", flush=True)
                if not options.keep_going:
                    raise
    if options.verbose:
        print("\n".join(f"{count:7} {what}" for what, count in sorted(tally.items())))
    print(f"{options.seeds} seeds in {time.monotonic() - started:.0f} s, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
