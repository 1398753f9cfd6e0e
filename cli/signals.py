"""What ends a server: a signal, at whatever moment.

What a signal's handler raises is lost where Python calls code of which nobody awaits the end: a weak reference's
callback, as importing makes many. gunicorn's new worker takes a signal for its master's, until it has handlers.
"""

import signal

ENDING = (signal.SIGTERM, signal.SIGINT)

_seen: list[int] = []


def end_quietly() -> None:
    """Let SIGTERM and Ctrl-C end this process like a return: exit status 0, and clean up on the way."""

    def end(signum: int, frame: object) -> None:
        _seen.append(signum)
        raise SystemExit(0)

    for signum in ENDING:
        signal.signal(signum, end)


def hold() -> None:
    """Let them wait until `release`. Raises SystemExit when one has come already, and was lost."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (*ENDING, signal.SIGQUIT))
    if _seen:
        raise SystemExit(0)


def release() -> None:
    """Take those that waited, and from now on all others."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*ENDING, signal.SIGQUIT))
