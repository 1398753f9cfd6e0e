"""A zfs command over the model in the folder $FAKE_ZFS: the options an agent uses, zfs's own messages and exits.

`faults.json` in that folder makes a subcommand misbehave: {"send": {"cut": 500, "hang": 2}, "receive": {"ignore":
true}, "list": {"stderr": "...", "exit": 1, "unknown": "userrefs"}, "rename": {"complaint": "said when it is done",
"warning": "without harm"}}.
`calls.jsonl` keeps every argv; `allowed` is what `zfs allow DATASET` prints.
"""

import fcntl
import gc
import getopt
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from planner.resume import decode_resume_token
from tests.zfs_model import KNOWN, TYPES, Pools
from tests.zfs_state import Reader, lines_of, pools_in
from tests.zfs_values import Refused, Stream, size


def folder() -> Path:
    return Path(os.environ["FAKE_ZFS"])


class Usage(Exception):
    """A wrong command line: exit 2."""


class Asked:
    """A subcommand's command line."""

    def __init__(self, args: list[str], options: str) -> None:
        try:
            self.options, self.words = getopt.gnu_getopt(args, options)
        except getopt.GetoptError as error:
            raise Usage(f"invalid option '{error.opt}'") from None

    def has(self, *letters: str) -> bool:
        return any(option[1:] in letters for option, _ in self.options)

    def all(self, letter: str) -> list[str]:
        return [value for option, value in self.options if option[1:] == letter]

    def one(self, letter: str, default: str = "") -> str:
        return (self.all(letter) or [default])[-1]


def faults(command: str) -> dict:
    kept = folder() / "faults.json"
    return json.loads(kept.read_text()).get(command, {}) if kept.exists() else {}


# --- looking -------------------------------------------------------------------------------------


def require_all(pools: Pools, asked: Asked) -> None:
    """What is missing is said after what is there was shown."""
    for word in asked.words:
        pools.find(word) if "@" in word or "#" in word else pools.dataset(word)


def rows(pools: Pools, asked: Asked, types: tuple[str, ...]) -> list:
    """The rows that -r, -d and the named datasets choose."""
    depth = 99 if asked.has("r") or not asked.words else int(asked.one("d", "0"))
    found = []
    for row in pools.rows(types):
        name = pools.name(*row)
        below = [
            name[len(word) :]
            for word in asked.words
            if name == word or name.startswith((word + "/", word + "@", word + "#"))
        ]
        if not asked.words or any(rest.count("/") + rest.count("@") + rest.count("#") <= depth for rest in below):
            found.append(row)
    return found


def list_(pools: Pools, args: list[str]) -> None:
    asked = Asked(args, "Hprd:t:o:s:")
    types = tuple(asked.one("t", "filesystem,volume").split(","))
    columns = asked.one("o", "name,used,available,referenced,mountpoint").split(",")
    known = [column for column in KNOWN if column != faults("list").get("unknown")]
    if bad := [column for column in columns if column not in known]:
        raise Usage(f"bad property list: invalid property '{bad[0]}'")
    if not asked.has("p") or not asked.has("H"):
        raise Usage("the model prints scripted output only")
    chosen = rows(pools, asked, TYPES if types == ("all",) else types)
    if asked.has("s"):
        chosen.sort(key=lambda row: int(*pools.values([asked.one("s")], *row)))
    for row in chosen:
        print("\t".join(pools.values(columns, *row)))
    require_all(pools, asked)


def get(pools: Pools, args: list[str]) -> None:
    asked = Asked(args, "Hprd:t:o:s:")
    names = asked.words.pop(0)
    for row in rows(pools, asked, TYPES):
        wanted = names.split(",")
        if names == "all":
            wanted = sorted(row[0].properties)
        for name in wanted:
            source = "local" if name in row[0].properties and not row[1] else "-"
            (value,) = [row[0].properties[name]] if source == "local" else pools.values([name], *row)
            values = {"name": pools.name(*row), "property": name, "value": value, "source": source}
            if not asked.has("s") or source in asked.one("s").split(","):
                print("\t".join(values[column] for column in asked.one("o", "name,property,value,source").split(",")))
    require_all(pools, asked)


def allow(pools: Pools, args: list[str]) -> None:
    """What `allowed` in the folder has: permissions are not part of the model."""
    pools.dataset(*Asked(args, "").words)
    kept = folder() / "allowed"
    print(kept.read_text() if kept.exists() else "", end="")


def version(pools: Pools, args: list[str]) -> None:
    print("zfs-2.1.11-1\nzfs-kmod-2.1.11-1")


# --- changing ------------------------------------------------------------------------------------


def pairs(words: list[str]) -> dict[str, str]:
    return dict(word.split("=", 1) for word in words)


def create(pools: Pools, args: list[str]) -> None:
    asked = Asked(args, "o:V:u")
    (name,) = asked.words
    if "/" not in name:
        raise Refused(f"cannot create '{name}': missing dataset name")
    pools.create(name, "volume" if asked.has("V") else "filesystem", properties=pairs(asked.all("o")))


def destroy(pools: Pools, args: list[str]) -> None:
    asked = Asked(args, "nvprRd")
    (name,) = asked.words
    if "#" in name:
        pools.destroy_bookmark(*name.split("#"))
    elif "@" in name:
        dataset, _, snaps = name.partition("@")
        if asked.has("v"):
            print("".join(f"destroy\t{dataset}@{snap}\n" for snap in snaps.split(",")), end="")
        if not asked.has("n"):
            pools.destroy_snapshots(dataset, snaps.split(","))
    else:
        pools.destroy(name, recursive=asked.has("r"))


def rename(pools: Pools, args: list[str]) -> None:
    asked = Asked(args, "uf")
    old, new = asked.words
    if "@" in old:
        pools.rename_snapshot(*old.split("@"), new.partition("@")[2])
    else:
        pools.rename(old, new)


def promote(pools: Pools, args: list[str]) -> None:
    pools.promote(*Asked(args, "").words)


def rollback(pools: Pools, args: list[str]) -> None:
    asked = Asked(args, "r")
    pools.rollback(*asked.words[0].split("@"), recursive=asked.has("r"))


def bookmark(pools: Pools, args: list[str]) -> None:
    old, new = Asked(args, "").words
    pools.bookmark(*old.split("@"), new.partition("#")[2])


def snapshot(pools: Pools, args: list[str]) -> None:
    asked = Asked(args, "r")
    pools.snapshot(*asked.words[0].split("@"), recursive=asked.has("r"))


def set_(pools: Pools, args: list[str]) -> None:
    *words, name = Asked(args, "").words
    pools.dataset(name).properties.update(pairs(words))


def hold(pools: Pools, args: list[str]) -> None:
    tag, name = Asked(args, "").words
    pools.hold(*name.split("@"), tag)


def release(pools: Pools, args: list[str]) -> None:
    tag, name = Asked(args, "").words
    pools.release(*name.split("@"), tag)


# --- streams -------------------------------------------------------------------------------------


def stream_of(pools: Pools, asked: Asked) -> Stream:
    if asked.has("t"):
        return pools.resume(asked.one("t"))
    (name,) = asked.words
    base = asked.one("i") or asked.one("I") or None
    dataset, _, end = name.partition("@")
    if base and base.startswith((f"{dataset}@", f"{dataset}#")):
        base = base.removeprefix(dataset)
    raw, embedded = asked.has("w"), asked.has("e")
    return pools.send(dataset, end, base, intermediates=asked.has("I"), raw=raw, embedded=embedded)


def describe(pools: Pools, stream: Stream, asked: Asked) -> str:
    """What `send -vP` says before it sends."""
    said, base = "", asked.one("i") or asked.one("I")
    if asked.has("t"):
        token = decode_resume_token(asked.one("t"))
        assert token is not None
        start = pools.search(token.to_name, token.from_guid, marks=True) if token.from_guid else None
        base = f"{start[0].name}@{start[1].name}" if start else ""
        said += "resume token contents:\nnvlist version: 0\n"
        said += f"\tfromguid = {int(token.from_guid):#x}\n" if token.from_guid else ""
        said += f"\tobject = 0x1\n\toffset = 0x0\n\tbytes = {token.bytes_done:#x}\n\ttoguid = {int(token.to_guid):#x}\n"
        said += f"\ttoname = {token.to_name}\n\tcompressok = 1\n" + "\trawok = 1\n" * token.raw
    for part in stream.parts:
        kind = f"incremental\t{base}" if part.from_guid else "full"
        said += f"{kind}\t{part.to_name}\t{size(part.blocks)}\n"
    return said + f"size\t{sum(size(part.blocks) for part in stream.parts)}\n"


def send(args: list[str]) -> None:
    asked = Asked(args, "nvPLcewi:I:t:")
    with pools_in(folder()) as pools:
        stream = stream_of(pools, asked)
    if asked.has("n"):
        print(faults("send").get("description") or describe(pools, stream, asked), end="")
        return
    said = describe(pools, stream, asked) if asked.has("v") else ""
    print(said, end="", file=sys.stderr, flush=True)
    fault = faults("send")
    left = fault.get("cut", 1 << 60)
    done, name = 0, ""
    lines = list(lines_of(stream))
    for line in lines:
        if line == lines[-1]:
            time.sleep(fault.get("hang", 0))
        sys.stdout.buffer.write(line[:left])
        sys.stdout.buffer.flush()
        left -= len(line)
        if left <= 0:
            raise Refused("warning: cannot send: Input/output error")
        value = json.loads(line)
        if "part" in value:
            done, name = 0, value["part"]["to_name"]
        elif "block" in value and said:
            done += value["block"][1]
            print(f"12:00:00\t{done}\t{name}", file=sys.stderr, flush=True)


def receive(args: list[str]) -> None:
    asked = Asked(args, "suAo:x:")
    (name,) = asked.words
    if faults("receive").get("ignore"):
        sys.stdin.buffer.read()
        return
    if asked.has("A"):
        with pools_in(folder()) as pools:
            pools.abort(name)
        return
    reader = Reader()
    try:
        for line in sys.stdin.buffer:
            reader.add(line)
    except InterruptedError:
        pass  # what came so far is kept
    properties = pairs(asked.all("o"))
    origin = properties.pop("origin", None)
    stream = reader.stream
    if not stream or not stream.parts:
        raise Refused("cannot receive: failed to read from stream")
    if stream.kind == "volume" and (bad := {"canmount", "mountpoint"} & {*properties, *asked.all("x")}):
        raise Refused(f"cannot receive: property '{min(bad)}' does not apply to datasets of this type")
    with pools_in(folder()) as pools:
        pools.receive(name, stream, origin=origin, resumable=asked.has("s"), properties=properties)


def interrupt(signum: int, frame: object) -> None:
    raise InterruptedError


def run(argv: list[str]) -> int:
    with (folder() / "calls.jsonl").open("a") as log:
        log.write(json.dumps(argv) + "\n")
    command, *args = argv
    signal.signal(signal.SIGTERM, interrupt if command == "receive" else signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    fault = faults(command)
    if "exit" in fault:
        print(fault.get("stderr", f"cannot {command}: I/O error"), file=sys.stderr)
        return int(fault["exit"])
    names = {"list": list_, "set": set_}
    try:
        if command in ("send", "receive"):
            globals()[command](args)
        else:
            with pools_in(folder()) as pools:
                names.get(command, globals().get(command))(pools, args)
        if "warning" in fault:
            print(fault["warning"], file=sys.stderr)
        if "complaint" in fault:
            raise Refused(fault["complaint"])
    except Refused as error:
        print(error, file=sys.stderr)
        return 1
    except Usage as error:
        print(f"{error}\nusage:\n\t{command} ...", file=sys.stderr)
        return 2
    return 0


# --- a process for all calls ---------------------------------------------------------------------


@contextmanager
def zfs_server() -> Iterator[None]:
    """Let fake/zfs find a process that has all this loaded, which takes it five times as long as most of its work."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"\0fake-zfs-{secrets.token_hex(8)}")
    listener.listen(64)
    os.environ["FAKE_ZFS_SERVER"] = listener.getsockname()[1:].decode()
    command = [sys.executable, "-m", "tests.fake_zfs", str(listener.fileno())]
    checkout = Path(__file__).parent.parent
    with (
        subprocess.Popen(command, cwd=checkout, stdin=subprocess.PIPE, pass_fds=[listener.fileno()]) as server,
        listener,
    ):
        try:
            yield
        finally:
            server.kill()
            del os.environ["FAKE_ZFS_SERVER"]


def serve(listener: socket.socket) -> None:
    """Answer calls, each in a process of its own, as long as standard input is open."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    gc.disable()  # none of them lives long
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        caller, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            answer(caller)
        caller.close()


def answer(caller: socket.socket) -> NoReturn:
    """Do what one call asks for, with its own input and output. Dies with it."""
    request, files, _, _ = socket.recv_fds(caller, 1 << 18, 3)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    at, count, *words = request.split(b"\0")
    os.chdir(at)
    argv, environ = words[: int(count)], words[int(count) :]
    os.environb.clear()
    os.environb.update(each.partition(b"=")[::2] for each in environ)
    fcntl.fcntl(caller, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(caller, fcntl.F_SETFL, os.O_ASYNC)  # SIGIO, which ends us, when the caller is gone
    caller.send(str(os.getpid()).encode())
    status = run(list(map(os.fsdecode, argv)))
    sys.stdout.flush()
    caller.send(str(status).encode())
    os._exit(0)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
