"""Whether a stream is sent raw, which is decided once for a source and its replica and then never changes."""

from dataclasses import dataclass, replace

from planner.histories import History, Relation, newest_common, relate
from planner.model import Policy, Snapshot


@dataclass(frozen=True, slots=True)
class Form:
    """How streams go from one dataset to its replica."""

    raw: bool  # zfs send -w: encrypted blocks as they are
    embedded: bool  # zfs send -e is allowed: neither side is encrypted
    strict: bool = False  # onto a raw encrypted replica: the base must be its newest snapshot


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why no stream can go from one dataset to its replica."""

    reason: str


def is_cipher(encryption: str | None) -> bool:
    """Whether a dataset is encrypted, as far as that was reported."""
    return encryption not in (None, "off")


_NEW = "new"  # what an IV set begins with that is not known


def as_received(snapshot: Snapshot, raw: bool, encryption: str | None, place: str) -> Snapshot:
    """A snapshot as a target has it that is encrypted so, or not. Only a raw stream keeps the IV set: another makes a
    new one, not known before it is reported, but like no other's; `place` stands for the target."""
    if raw:
        unknown = (snapshot.ivsetguid or "").startswith(_NEW)
        return replace(snapshot, ivsetguid=None) if unknown else snapshot
    return replace(snapshot, ivsetguid=f"{_NEW} {snapshot.guid} {place}" if is_cipher(encryption) else None)


def form_for_new(policy: Policy, source: History, parent_encryption: str | None) -> Form:
    """How a new replica is sent: raw when the source is encrypted, unless the group says always or never."""
    encryption = source.replica.encryption
    raw = _must_be_raw(policy, encryption) or (policy.raw == "auto" and is_cipher(encryption))
    return Form(raw, embedded=encryption == "off" and parent_encryption == "off")


def form_for_replica(policy: Policy, source: History, target: History) -> Form | Unfit:
    """How an existing replica goes on, or why it can't.

    A raw increment onto what was received unencrypted is refused, and one onto what was received by another
    sender's key fails for its IV set. So what tells the two kinds apart must be known: `encryption` of both
    datasets, and `ivsetguid` of their newest common snapshot where both are encrypted.
    """
    here, there = source.replica.encryption, target.replica.encryption
    name = target.replica.dataset
    if is_cipher(here) and is_cipher(there):
        return _both_encrypted(policy, source, target)
    if not is_cipher(here) and not is_cipher(there):
        return Form(_must_be_raw(policy, here), embedded=here == "off" and there == "off")
    if here is None or there is None:
        if policy.raw == "auto":
            return Unfit(f"whether {name} and its source are encrypted is not known: report the column encryption")
        raw = _must_be_raw(policy, here)
        return Form(raw, embedded=False, strict=raw)
    if policy.raw == "always" and there == "off":
        return Unfit(_ONTO_PLAIN.format(name))
    return Form(raw=False, embedded=False)


def relation(policy: Policy, source: History, target: History) -> Relation:
    """How a replica stands to a history that is sent there as it must be."""
    form = form_for_replica(policy, source, target)
    return relate(source, target, isinstance(form, Form) and form.strict)


def _must_be_raw(policy: Policy, encryption: str | None) -> bool:
    """Whether the group says raw: always of a source that may be encrypted.

    Of one that is not, `zfs send -w` only means -L -c -e, and an encrypted target refuses embedded blocks.
    """
    return policy.raw == "always" and encryption != "off"


_ONTO_PLAIN = (
    "{} was received unencrypted, so no raw stream can go on top of it: "
    "set the group's raw to never, or rename that dataset so that a raw copy can be made in its place"
)


def _both_encrypted(policy: Policy, source: History, target: History) -> Form | Unfit:
    name = target.replica.dataset
    common = newest_common(source, target)
    ours = common.at_source.ivsetguid if common else None
    theirs = common.at_target.ivsetguid if common else None
    if ours is None or theirs is None:
        if policy.raw == "auto" and common is not None:
            return Unfit(
                f"whether {name} was received raw is not known: both agents must report the column ivsetguid, "
                "or the group must say raw: always or raw: never"
            )
        return Form(policy.raw != "never", embedded=False, strict=policy.raw != "never")
    was_raw = ours == theirs
    if policy.raw == "always" and not was_raw:
        return Unfit(
            f"{name} was not received raw, so no raw stream can go on top of it: its IV sets differ. "
            "Set the group's raw to auto or never, or rename that dataset so that a raw copy can be made in its place"
        )
    if policy.raw == "never" and was_raw:
        return Unfit(f"{name} was received raw, so only raw streams can go on top of it: set the group's raw to auto")
    return Form(was_raw, embedded=False, strict=was_raw)
