"""Worker threads for what would block the main loop: one thread per lane, jobs in order, results to the inbox."""

import logging
import queue
import threading
from collections.abc import Callable

from edgeferry.agent.errors import AgentError
from edgeferry.agent.inbox import Done, Inbox

__all__ = ["Lane", "LaneCrashedError"]

logger = logging.getLogger(__name__)

CAPACITY = 64


class LaneCrashedError(AgentError):
    """A job raised what nobody had foreseen; the agent ends and is started anew."""


class Lane:
    """One worker thread.

    Args:
        name: For logs and for `Done.lane`.
        inbox: Where the results go, errors among them; a job that returns None has nothing to tell.
        capacity: Jobs that may wait; 0 for any number, where the lifecycle bounds them.
    """

    def __init__(self, name: str, inbox: Inbox, *, capacity: int = CAPACITY) -> None:
        self._name = name
        self._inbox = inbox
        self._jobs: queue.Queue[Callable[[], object] | None] = queue.Queue(capacity)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_alive(self) -> bool:
        """Whether the thread lives."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to take jobs."""
        self._thread.start()

    def submit(self, job: Callable[[], object]) -> None:
        """Have ``job`` done after those before it.

        Raises:
            LaneCrashedError: The lane is so far behind that something must be wrong.
        """
        try:
            self._jobs.put_nowait(job)
        except queue.Full as err:
            raise LaneCrashedError(f"worker {self._name} is {self._jobs.maxsize} jobs behind") from err

    def is_busy(self) -> bool:
        """Tell whether jobs are waiting."""
        return not self._jobs.empty()

    def stop(self, timeout_s: float) -> None:
        """Let the running job end, for at most ``timeout_s``."""
        try:
            self._jobs.put_nowait(None)
        except queue.Full:
            logger.warning("worker %s ends with jobs undone", self._name)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                value = job()
            except AgentError as err:
                value = err
            except Exception as err:
                logger.exception("worker %s", self._name)
                value = LaneCrashedError(f"worker {self._name}: {err!r}")
            if value is not None:
                self._inbox.put(Done(self._name, value))
