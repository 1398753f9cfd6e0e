"""A gunicorn master that is told to end once, by a signal at any moment, and whose workers are, too."""

from typing import Any

from gunicorn.arbiter import Arbiter

from cli import signals


class Master(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """Begins with signals held, and holds them while it forks: a worker lets them in when it can tell what they say."""

    def init_signals(self) -> None:
        super().init_signals()
        signals.release()

    def handle_int(self) -> None:
        """End like SIGTERM: gunicorn's SIGQUIT for the workers raises in them, wherever they are. A second one does."""
        self.handle_term()

    def spawn_worker(self) -> Any:
        signals.hold()
        try:
            return super().spawn_worker()
        finally:
            signals.release()
