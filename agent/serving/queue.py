"""One bounded queue and one interpreter thread for each loaded version of a model.

Decides which requests are run: none when the queue is full, none whose deadline has passed. A run that hangs costs its
own requests their deadlines and nobody else anything.
"""

import logging
import threading
import time
from collections.abc import Mapping
from queue import SimpleQueue
from typing import Any

from numpy.typing import NDArray

from edgeferry.agent.blackbox import Recorder
from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.pace import Pace
from edgeferry.agent.serving.sessions import ALONE, Sessions, Turn
from edgeferry.agent.serving.stats import Durations, Stats
from edgeferry.inference.model import InputError, ModelError
from edgeferry.wire.messages import Code, Reason

__all__ = ["ModelQueue", "Tensors"]

logger = logging.getLogger(__name__)

Tensors = Mapping[str, NDArray[Any]]


class _Job:
    """A request on its way through the queue; made by one thread, fulfilled by another."""

    __slots__ = ("_done", "deadline_s", "durations", "error", "inputs", "outputs", "submitted_s", "turn")

    def __init__(self, inputs: Tensors, turn: Turn, deadline_s: float) -> None:
        self.inputs = inputs
        self.turn = turn
        self.deadline_s = deadline_s
        self.submitted_s = time.monotonic()
        self.outputs: Tensors = {}
        self.error: RequestError | None = None
        self.durations = Durations()
        self._done = threading.Lock()  # held until the job is done: the cheapest event there is
        self._done.acquire()

    def finish(self) -> None:
        self._done.release()

    def wait(self) -> bool:
        return self._done.acquire(timeout=max(0.0, self.deadline_s - time.monotonic()))


class ModelQueue:
    """Runs one model's requests in order of arrival, one at a time."""

    def __init__(
        self, sessions: Sessions, *, name: str, recorder: Recorder, capacity: int, pace: Pace | None = None
    ) -> None:
        """Store the parts.

        Args:
            sessions: Used by this queue's thread alone from now on.
            name: For messages.
            recorder: Told when a run begins and ends.
            capacity: Requests that may wait.
            pace: How much of the time the model may run; None for all of it.
        """
        self._sessions = sessions
        self._name = name
        self._recorder = recorder
        self._capacity = capacity
        self._pace = pace or Pace()
        self._closing = threading.Event()
        self._running = False
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.stats = Stats(time.monotonic())

    @property
    def depth(self) -> int:
        """Return how many requests wait."""
        return self._jobs.qsize()

    @property
    def is_running(self) -> bool:
        """Return whether the model is being run at this moment."""
        return self._running

    def start(self) -> None:
        """Run what is submitted."""
        self._thread.start()

    def close(self, timeout_s: float) -> bool:
        """End the thread after what was submitted before; return whether it ended in time."""
        self._closing.set()
        self._jobs.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def run(
        self, inputs: Tensors, deadline_s: float, *, is_patient: bool, turn: Turn = ALONE
    ) -> tuple[Tensors, Durations]:
        """Return the outputs, and where the time went.

        Args:
            inputs: As ``Model.run`` takes them.
            deadline_s: By ``time.monotonic``.
            is_patient: Whether no answer until then is the model's failure; otherwise it is its client's haste.
            turn: Which state of a stateful model it goes on with.

        Raises:
            RequestError: The queue is full, the deadline has passed, or the model failed.
        """
        if self._jobs.qsize() >= self._capacity:
            detail = f"{self._capacity} requests are waiting for {self._name} already"
            raise RequestError(Code.RESOURCE_EXHAUSTED, Reason.BUSY, detail)
        job = _Job(inputs, turn, deadline_s)
        self._jobs.put(job)
        if not job.wait():
            if is_patient:
                self._count_failure(job)
            raise _too_late(f"{self._name} gave no answer in {time.monotonic() - job.submitted_s:.3f} s")
        if job.error:
            raise job.error
        return job.outputs, job.durations

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            began_s = time.monotonic()
            if began_s >= job.deadline_s:
                job.error = _too_late(f"the deadline passed while the request waited for {self._name}")
            else:
                self._run(job, began_s)
            job.finish()
            if self._pace.share < 1.0:
                self._closing.wait(self._pace.rest_s(time.monotonic() - began_s))

    def _run(self, job: _Job, began_s: float) -> None:
        self._running = True
        self._recorder.begin(time.monotonic_ns())
        try:
            job.outputs = self._sessions.run(job.inputs, job.turn)
        except RequestError as err:
            job.error = err
        except InputError as err:
            job.error = RequestError.bad(str(err))
        except ModelError as err:
            job.error = self._failure(job, str(err))
        except Exception:  # the thread's outermost frame: one bad request must not end it
            logger.exception("running %s failed", self._name)
            job.error = self._failure(job, "internal error; see the log of the serving process")
        else:
            ended_s = time.monotonic()
            run = self._sessions.last_run
            job.durations = Durations(
                queue_s=began_s - job.submitted_s,
                input_s=run.input_s,
                invoke_s=run.invoke_s,
                output_s=run.output_s,
            )
            self.stats.succeeded(job.durations, now_s=ended_s, unix_ms=_unix_ms())
        finally:
            self._recorder.end()
            self._running = False

    def _failure(self, job: _Job, detail: str) -> RequestError:
        self._count_failure(job)
        return RequestError(Code.INTERNAL, Reason.MODEL_ERRORS, f"{self._name}: {detail}")

    def _count_failure(self, job: _Job) -> None:
        now_s = time.monotonic()
        self.stats.failed(now_s - job.submitted_s, now_s=now_s, unix_ms=_unix_ms())


def _too_late(detail: str) -> RequestError:
    return RequestError(Code.DEADLINE_EXCEEDED, Reason.DEADLINE_PASSED, detail)


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000
