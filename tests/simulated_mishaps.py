"""What people, their tools and their hardware do to simulated hosts. What ZFS refuses is not done."""

from collections.abc import Callable
from contextlib import suppress

from tests.simulated_hosts import Host, Unreachable
from tests.simulated_world import DAY, HOUR, PATHS, Group, World
from tests.zfs_model import Pools, Refused

Deed = Callable[[World, Host, Pools, str], None]  # the host, its pools, one of its datasets


def snapshot(world: World, host: Host, pools: Pools, name: str) -> None:
    """What a snapshot tool does; names repeat from host to host."""
    if world.dice.random() < 0.7:
        pools.write(name, world.dice.randrange(1, 500))
    world.count += 1
    taken = world.dice.choice((f"auto-{world.count}", f"hourly-{world.count % 7}"))
    pools.snapshot(name, taken, recursive=world.dice.random() < 0.2)


def write(world: World, host: Host, pools: Pools, name: str) -> None:
    pools.write(name, world.dice.randrange(1, 500))


def prune(world: World, host: Host, pools: Pools, name: str) -> None:
    """The oldest, some, or nearly all."""
    snaps = [snap.name for snap in pools.dataset(name).snapshots]
    match world.dice.randrange(6):
        case 0:
            doomed = snaps[:-1]
        case 1:
            doomed = world.dice.sample(snaps, world.dice.randrange(len(snaps) + 1))
        case _:
            doomed = snaps[: world.dice.randrange(1, 3)]
    pools.destroy_snapshots(name, doomed)


def roll_back(world: World, host: Host, pools: Pools, name: str) -> None:
    pools.rollback(name, world.dice.choice(pools.dataset(name).snapshots).name, recursive=True)


def rename_snapshot(world: World, host: Host, pools: Pools, name: str) -> None:
    world.count += 1
    new = world.dice.choice((f"auto-r{world.count}", f"kept-{world.count}", f"hourly-{world.count % 7}"))
    pools.rename_snapshot(name, world.dice.choice(pools.dataset(name).snapshots).name, new)


def rename(world: World, host: Host, pools: Pools, name: str) -> None:
    pools.rename(name, host.dataset(world.dice.choice((*PATHS, "archive", "archive/old"))))


def destroy(world: World, host: Host, pools: Pools, name: str) -> None:
    """And perhaps make it anew."""
    pools.destroy(name, recursive=True)
    if world.dice.random() < 0.6:
        pools.create(name)
        snapshot(world, host, pools, name)
        world.note("a dataset made anew")


def grow(world: World, host: Host, pools: Pools, name: str) -> None:
    """A new dataset."""
    path = world.dice.choice(PATHS)
    kind = "volume" if path == "disk" else "filesystem"
    pools.create(host.dataset(path), kind, encryption="aes-256-gcm" if path == "secret" else None)
    if world.dice.random() < 0.8:
        snapshot(world, host, pools, host.dataset(path))


def bookmark(world: World, host: Host, pools: Pools, name: str) -> None:
    world.count += 1
    pools.bookmark(name, world.dice.choice(pools.dataset(name).snapshots).name, f"mark-{world.count}")


def lose_bookmark(world: World, host: Host, pools: Pools, name: str) -> None:
    pools.destroy_bookmark(name, world.dice.choice(pools.dataset(name).bookmarks).name)


def hold(world: World, host: Host, pools: Pools, name: str) -> None:
    """Put a hold on a snapshot, or take one off."""
    snap = world.dice.choice(pools.dataset(name).snapshots)
    if snap.holds:
        pools.release(name, snap.name, snap.holds[0])
    else:
        pools.hold(name, snap.name, "kept")


def lose_end(world: World, host: Host, pools: Pools, name: str) -> None:
    """What a transfer that broke off was to bring goes, wherever it is."""
    begun = [kept.partial for each in world.hosts.values() for kept in each.pools.datasets.values() if kept.partial]
    end = world.dice.choice(begun).parts[0].to_guid
    for each in world.hosts.values():
        for kept in list(each.pools.datasets.values()):
            with suppress(Refused):
                each.pools.destroy_snapshots(kept.name, [snap.name for snap in kept.snapshots if snap.guid == end])
                each.changes += 1


def abort(world: World, host: Host, pools: Pools, name: str) -> None:
    pools.abort(name)


def export(world: World, host: Host, pools: Pools, name: str) -> None:
    """A disk is unplugged, or plugged in again."""
    host.shelf, pools.datasets = pools.datasets, host.shelf


def replace_disk(world: World, host: Host, pools: Pools, name: str) -> None:
    """The pool is new and empty."""
    pools.datasets, pools.capacity = {}, {}
    host.shelf = {}
    pools.create(host.pool)
    if host.root != host.pool and world.dice.random() < 0.5:
        pools.create("/".join(host.root.split("/")[:2]), properties={"readonly": "on"})


def switch(world: World, host: Host, pools: Pools, name: str) -> None:
    """A host goes off or comes back; its agent does not survive that."""
    host.up = not host.up
    if host.up and world.now - host.off_at > 60 * DAY:
        world.note("a host away for months")
    host.off_at = world.now
    world.crash(host)


def lie(world: World, host: Host, pools: Pools, name: str) -> None:
    """Its clock is wrong from now on, or right again."""
    pools.now = int(world.now) + world.dice.choice((0, 0, -40 * DAY, -2 * HOUR, 2 * HOUR, 2 * DAY))


def fill(world: World, host: Host, pools: Pools, name: str) -> None:
    """Its pool is nearly full, or has room again."""
    if pools.capacity.pop(host.pool, None) is None:
        pools.capacity[host.pool] = pools.used(host.pool) + world.dice.choice((0, 200, 2000, 30_000))


def load_key(world: World, host: Host, pools: Pools, name: str) -> None:
    """Somebody opens a replica that came encrypted."""
    pools.load_key(name)


DEEDS: dict[Deed, int] = {
    snapshot: 30,
    write: 4,
    prune: 6,
    roll_back: 2,
    rename_snapshot: 3,
    rename: 1,
    destroy: 1,
    grow: 5,
    bookmark: 2,
    lose_bookmark: 1,
    hold: 2,
    lose_end: 3,
    abort: 1,
    export: 1,
    replace_disk: 1,
    switch: 3,
    lie: 2,
    fill: 2,
    load_key: 1,
}
ABOUT_THE_HOST = (lose_end, export, replace_disk, switch, lie, grow, fill)


def befall(world: World) -> None:
    """One thing happens to one host; most of it where the data is made."""
    dice = world.dice
    hosts = list(world.hosts.values())
    host = hosts[0] if dice.random() < 0.5 else dice.choice(hosts)
    deed = dice.choices(list(DEEDS), list(DEEDS.values()))[0]
    if not host.up and deed is not switch:
        return
    names = [name for each, path, name in world.replicas() if each is host and (path or dice.random() < 0.1)]
    if deed not in ABOUT_THE_HOST and not names:
        return
    host.changes += deed is not switch
    with suppress(Refused, IndexError):
        deed(world, host, host.pools, dice.choice(names) if names else "")
        world.note(f"people: {deed.__name__}")


def administer(world: World) -> None:
    """The admin edits a group, decides a conflict or accepts a loss."""
    dice = world.dice
    group = dice.choice(world.groups)
    match dice.randrange(13):
        case 12:
            exclude = dice.choice(([], ["data/**"], ["secret/**"]))
            world.change_group(group, datasets={**group.options["datasets"], "exclude": exclude})
        case 6 | 7 | 8:
            prune_what_is_free(world)
        case 0:
            world.change_group(group, paused=_paused(world, group))
        case 1:
            world.change_group(group, enabled=not group.options["enabled"])
        case 2 if world.groups[0].options["hub_system_id"]:
            _name_another_hub(world)
        case 3:
            world.change_group(group, window=dice.choice((None, "22:00-06:00")))
        case 4:
            world.change_group(group, on_conflict=dice.choice(("manual", "use_newest", "ignore")))
        case 5:
            world.accept()
        case _:
            decide_one(world, group)


def _name_another_hub(world: World) -> None:
    """Of all groups that begin at the old one: two must not send to each other."""
    old = world.groups[0].options["hub_system_id"]
    groups = [group for group in world.groups if group.options["hub_system_id"] == old]
    new = world.dice.choice([each for each in world.hosts if all(each in group.hosts for group in groups)])
    for group in groups:
        world.change_group(group, hub_system_id=new)
    world.note("another hub")


def prune_what_is_free(world: World) -> None:
    """Some hosts report, and in the same minute follow what the witness says may go."""
    group = world.dice.choice(world.groups)
    hosts = [host for host in group.hosts.values() if host.up and world.dice.random() < 0.7]
    for host in hosts:
        with suppress(Unreachable):
            world.report(host)
    hosts = [host for host in hosts if host.known]
    free = world.prunable(group)

    def follow() -> None:
        for host in hosts:
            for name, doomed in sorted(free[host.system_id].items()):
                with suppress(Refused):
                    host.pools.destroy_snapshots(name, doomed)
                    world.note("people: what is free destroyed")

    world.pruned(hosts, follow)
    for host in hosts:
        host.changes += 1


def _paused(world: World, group: Group) -> dict[str, list[str]]:
    dice = world.dice
    return {
        "systems": dice.choice(([], [], [dice.choice(list(group.hosts))])),
        "datasets": dice.choice(([], [], ["www"])),
    }


def decide_one(world: World, group: Group) -> None:
    """Resolve some conflict in some way."""
    dice = world.dice
    found = [conflict for conflict in world.plan(group).conflicts if conflict.type != "missing"]
    if found:
        conflict = dice.choice(found)
        strategy = dice.choice(("manual", "manual", "use_newest", "use_largest", "use_majority", "ignore"))
        winner = dice.choice(conflict.sides).system_id if strategy == "manual" and conflict.sides else None
        if strategy != "manual" or winner is not None:
            world.resolve(conflict.id, conflict.path, strategy, winner, dice.random() < 0.4)
