"""What the store refuses, each named for what happened. The message is fit to be shown to whoever asked."""


class NotFound(Exception):
    """No document, or no shard, goes by this id."""


class AlreadyExists(Exception):
    """Another document has the same name, and names of its kind are unique."""


class Busy(Exception):
    """A lock was not to be had in time. Nothing was changed; trying again is safe."""


class StoreError(Exception):
    """A file can't be read or written. The message names it; the other files still work."""


class StoreFull(StoreError):
    """The disk or the quota is full. What was stored before is unchanged."""
