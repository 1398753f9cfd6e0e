"""A step as commands: argv lists, the one line they make for a shell, and a block of a script for a person."""

import shlex
from collections.abc import Iterable, Mapping

from planner.model import Bookmark, Member, Policy, Snapshot, Step
from planner.resume import decode_resume_token

Argv = tuple[str, ...]

SCRIPT_HEAD = """\
#!/bin/sh
# Read this first, then give it to sh on the host it was made for. Each step checks by guid that it
# still fits. Nothing here destroys anything.
set -u
failed=0
"""
SCRIPT_TAIL = 'exit "$failed"\n'

_TRANSFERS = ("create", "sync", "resume")


def commands_of(step: Step, policy: Policy, members: Mapping[str, Member]) -> tuple[Argv, ...]:
    """The argv lists that carry out a step where its executor is; of several, each is piped into the next.

    `policy` is the step's group's. Raises ValueError if a member's address could be read as an option.
    """
    if step.type not in _TRANSFERS:
        change = _change(step, members)
        if not change:
            return ()
        return (change if step.executor == step.target else _over_ssh(members[step.target], change),)
    send, receive = _send(step), _receive(step, policy)
    if step.source is None or step.source == step.target:
        return (send, receive)
    if step.executor == step.target:
        return (_over_ssh(members[step.source], send), receive)
    return (send, _over_ssh(members[step.target], receive))


def shell_line(commands: Iterable[Argv]) -> str:
    """One line for a POSIX shell, each word quoted once. A remote command is one word: a quoted line itself."""
    return " | ".join(shlex.join(argv) for argv in commands)


def script_block(step: Step, policy: Policy, members: Mapping[str, Member]) -> str:
    """A step for a script between SCRIPT_HEAD and SCRIPT_TAIL: check the guids, run, check that it arrived.

    A destructive step is a comment that says what was left out and why. ssh never reads the script's own rest.
    """
    title = f"# {step.type} {_one_line(step.target_dataset)}: {_one_line(step.reason)}\n"
    if step.destructive or step.type in ("delete", "rollback", "release"):
        what = "a bookmark" if step.type == "release" else "snapshots"
        return f"{title}# left out: this step destroys {what}, and only an agent runs it, which compares each guid\n"
    commands = commands_of(step, policy, members)
    after = _checks_after(step, members)
    run = " &&\n        ".join([shell_line(commands), *after])
    test = " &&\n    ".join(_checks_before(step, members)) or "true"
    return f"""{title}if {test}
then
    {run} ||
        {_complain("failed", step)}
else
    {_complain("no longer fits", step)}
fi </dev/null
"""


# --- send and receive ----------------------------------------------------------------------------


def _send(step: Step) -> Argv:
    """`-w` sends blocks as they are stored, large and compressed ones too, so it takes no other flag (zfs-send(8))."""
    if step.type == "resume":
        return ("zfs", "send", "-t", step.resume_token or "")
    flags = ["-w"] if step.raw else ["-L", "-c", *(["-e"] if step.embedded else [])]
    dataset = step.source_dataset or ""
    if step.base is not None:
        # an increment from a bookmark goes one snapshot at a time: -I wants a snapshot
        whole_way = step.intermediates and isinstance(step.base, Snapshot)
        flags += ["-I" if whole_way else "-i", _base_name(dataset, step.base)]
    return ("zfs", "send", *flags, f"{dataset}@{_end(step).name}")


def _receive(step: Step, policy: Policy) -> Argv:
    """Never mounted, never forced, and resumable; a dataset that this makes is kept from being written to."""
    options: list[str] = []
    if _makes_dataset(step):
        options = _new_replica_options(step, policy)
        options += ["-o", f"origin={step.origin}"] if step.origin else []
    return ("zfs", "receive", "-s", "-u", *options, step.target_dataset)


def _makes_dataset(step: Step) -> bool:
    """Whether the dataset is new: by a full stream, begun or resumed, or by an increment received as a clone."""
    if step.type == "resume":
        token = decode_resume_token(step.resume_token or "")
        return token is not None and token.from_guid is None
    return step.base is None or step.origin is not None


def _new_replica_options(step: Step, policy: Policy) -> list[str]:
    """Properties of a dataset that a receive makes: the step's own, or the group's, go before ours.

    canmount and mountpoint do not exist on volumes. `-x mountpoint`: it never takes its source's.
    """
    wanted = dict(step.properties or policy.properties)
    if step.kind == "volume":
        own = {name: value for name, value in wanted.items() if name not in ("canmount", "mountpoint")}
        return _options({"readonly": "on", **own})
    excluded = [] if "mountpoint" in wanted else ["-x", "mountpoint"]
    return [*_options({"readonly": "on", "canmount": "noauto", **wanted}), *excluded]


def _options(properties: Mapping[str, str]) -> list[str]:
    return [word for name, value in properties.items() for word in ("-o", f"{name}={value}")]


def _base_name(dataset: str, base: Snapshot | Bookmark) -> str:
    return f"{dataset}{'#' if isinstance(base, Bookmark) else '@'}{base.name}"


def _change(step: Step, members: Mapping[str, Member]) -> Argv:
    """The one command of a step that sends nothing, as the target runs it; empty when nothing is left to do."""
    target = step.target_dataset
    match step.type:
        case "delete":
            names = _names_of_guids(step, members)
            return ("zfs", "destroy", f"{target}@{','.join(names)}") if names else ()
        case "rollback":
            return ("zfs", "rollback", "-r", f"{target}@{_end(step).name}")
        case "rename":
            return ("zfs", "rename", target, _new_name(step))
        case "promote":
            return ("zfs", "promote", target)
        case "bookmark":
            return ("zfs", "bookmark", f"{target}@{_end(step).name}", _new_name(step))
        case "release":
            assert "#" in _new_name(step), "nothing but a bookmark is released"
            return ("zfs", "destroy", _new_name(step))
        case "abort_receive":
            return ("zfs", "receive", "-A", target)
        case "create_parent":
            return ("zfs", "create", *_options({"canmount": "off", "readonly": "on", **dict(step.properties)}), target)
        case _:
            raise AssertionError(f"a {step.type} step is a transfer")


def _end(step: Step) -> Snapshot:
    assert step.end is not None, f"a {step.type} step names a snapshot"
    return step.end


def _new_name(step: Step) -> str:
    assert step.new_name is not None, f"a {step.type} step has a new name"
    return step.new_name


def _names_of_guids(step: Step, members: Mapping[str, Member]) -> list[str]:
    """The names that the target's snapshots of the expected guids have now, oldest first."""
    replica = members[step.target].replicas.get(step.target_dataset)
    expected = set(step.expected_guids)
    return [snapshot.name for snapshot in replica.snapshots if snapshot.guid in expected] if replica else []


def _over_ssh(member: Member, argv: Argv) -> Argv:
    """The same command on another host. ssh gives its last word to a shell there, so it is quoted for that one."""
    host = member.ssh_hostname or member.hostname
    address = f"{member.ssh_user}@{host}" if member.ssh_user else host
    if address.startswith("-") or host.startswith("-"):
        raise ValueError(f"{address!r} is no address for ssh")
    return ("ssh", "-o", "BatchMode=yes", "-p", str(member.ssh_port), address, shlex.join(argv))


# --- scripts -------------------------------------------------------------------------------------


def _checks_before(step: Step, members: Mapping[str, Member]) -> list[str]:
    """Tests that all must pass: what the step was judged by is still there."""
    if step.type in _TRANSFERS and step.source is not None:
        checks = []
        if step.type != "resume":
            source = step.source_dataset or ""
            names = [(f"{source}@{_end(step).name}", _end(step).guid)]
            names += [(_base_name(source, step.base), step.base.guid)] if step.base else []
            checks = [_has(step.source, name, "guid", guid, step, members) for name, guid in names]
        if step.resume_token:
            checks.append(
                _has(step.target, step.target_dataset, "receive_resume_token", step.resume_token, step, members)
            )
        return checks
    facts: list[tuple[str, str, str]] = []
    if step.end is not None:
        facts.append((f"{step.target_dataset}@{step.end.name}", "guid", step.end.guid))
    if step.expected_written is not None:
        facts.append((step.target_dataset, "written", str(step.expected_written)))
    if step.resume_token is not None:
        facts.append((step.target_dataset, "receive_resume_token", step.resume_token))
    return [_has(step.target, name, prop, value, step, members) for name, prop, value in facts]


def _checks_after(step: Step, members: Mapping[str, Member]) -> list[str]:
    """`zfs receive` can exit 0 having done nothing, so the new snapshot's guid is read back."""
    if step.type not in _TRANSFERS or step.end is None:
        return []
    return [_has(step.target, f"{step.target_dataset}@{step.end.name}", "guid", step.end.guid, step, members)]


def _has(system: str, name: str, prop: str, value: str, step: Step, members: Mapping[str, Member]) -> str:
    """A shell test that a property of something on a system has this value now."""
    argv: Argv = ("zfs", "get", "-Hp", "-o", "value", prop, name)
    if system != step.executor:
        argv = _over_ssh(members[system], argv)
    return f'[ "$({shlex.join(argv)})" = {shlex.quote(value)} ]'


def _complain(what: str, step: Step) -> str:
    words = shlex.quote(_one_line(f"{what}: {step.type} {step.target_dataset}"))
    return f"{{ echo {words} >&2; failed=1; }}"


def _one_line(text: str) -> str:
    """The text with nothing that could end a comment."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
