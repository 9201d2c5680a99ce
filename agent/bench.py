"""Measures an installed model when an operator asks for it.

A request changes nothing and brings nothing: what is measured was named by signed documents and has passed its trial
here. It runs in a trial process, within the same limits, and in the lane of the deployments, so that there is never a
second trial beside it.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from edgeferry.agent.state import AgentState, Installed
from edgeferry.agent.trial import TrialCancelledError, run_trial
from edgeferry.device_profiles import DeviceProfile
from edgeferry.wire.bench import BenchParameters, BenchReport
from edgeferry.wire.codec import Message
from edgeferry.wire.messages import Code, Problem, Reason

__all__ = ["Bench"]

MAX_RUNS = 10_000

Reply = Callable[[Message], None]


class Bench:
    """Measures one model at a time.

    Args:
        blob_path: Tells where a blob lies, by its SHA-256.
        profile: Of the device: threads and limits.
        submit: Has a job done in a worker.
        state: Returns what is installed.
        on_trial: Takes the id of each trial process.
    """

    def __init__(
        self,
        blob_path: Callable[[str], Path],
        profile: DeviceProfile,
        submit: Callable[[Callable[[], None]], None],
        state: Callable[[], AgentState],
        on_trial: Callable[[int], None] | None = None,
    ) -> None:
        self._blob_path = blob_path
        self._profile = profile
        self._submit = submit
        self._state = state
        self._on_trial = on_trial
        self._turn = threading.Semaphore(1)
        self._cancel = threading.Event()

    def begin(self, parameters: dict[str, Any], reply: Reply) -> Problem | None:
        """Begin to measure and return None, or return why not; called by the main loop.

        Args:
            parameters: Those of a `BenchParameters`.
            reply: Called once from a worker, with a `BenchReport` or a `Problem`.
        """
        try:
            asked = msgspec.convert(parameters, BenchParameters)
        except msgspec.ValidationError as err:
            return Problem(Code.INVALID_ARGUMENT, Reason.BAD_REQUEST, f"bench: {err}")
        state = self._state()
        there, stable = _installed(state, asked.model), state.models.get(asked.model)
        chosen = there if asked.version else [stable.active] if stable else []
        installed = next((one for one in chosen if one and asked.version in {0, one.version}), None)
        if installed is None:
            return Problem(Code.NOT_FOUND, Reason.UNKNOWN_MODEL, _missing(asked, there))
        if not self._turn.acquire(blocking=False):
            return Problem(Code.RESOURCE_EXHAUSTED, Reason.BUSY, "another bench is under way; ask again when it ended")
        self._submit(partial(self._job, asked, installed, reply))
        return None

    def cancel(self) -> None:
        """End a running one; from any thread."""
        self._cancel.set()

    def _job(self, asked: BenchParameters, installed: Installed, reply: Reply) -> None:
        try:
            reply(self._measure(asked, installed))
        finally:
            self._turn.release()

    def _measure(self, asked: BenchParameters, installed: Installed) -> Message:
        limits, threads = self._profile.trial, self._profile.serving.threads
        try:
            report = run_trial(
                *(self._blob_path(blob.sha256) for blob in (installed.model, installed.manifest, installed.selftest)),
                threads=threads,
                timeout_s=limits.timeout_s + asked.seconds,
                memory_limit_bytes=limits.memory_limit_bytes,
                max_runs=MAX_RUNS,
                runs_s=asked.seconds,
                cancel=self._cancel,
                on_started=self._on_trial,
            )
        except TrialCancelledError:
            return Problem(Code.CANCELLED, Reason.TRIAL_CRASHED, "the agent is ending")
        except OSError as err:
            return Problem(Code.RESOURCE_EXHAUSTED, Reason.TRIAL_CRASHED, f"cannot start the trial process: {err}")
        return report.problem or BenchReport(
            model=asked.model,
            version=installed.version,
            profile=self._profile.name,
            scheme=installed.scheme,
            sha256=installed.model.sha256,
            threads=threads,
            runs=report.runs,
            load_ms=report.load_ms,
            p50_ms=report.invoke_p50_ms,
            p95_ms=report.invoke_p95_ms,
            peak_rss_bytes=report.peak_rss_bytes,
        )


def _installed(state: AgentState, model: str) -> list[Installed]:
    """Return what is installed of a model: what answers first, then what other labels name, then what was before."""
    records = state.slots(model).values()
    return [one for one in (*(record.active for record in records), *(record.previous for record in records)) if one]


def _missing(asked: BenchParameters, there: Sequence[Installed]) -> str:
    versions = ", ".join(str(version) for version in dict.fromkeys(one.version for one in there)) or "none"
    wanted = f"version {asked.version}" if asked.version else "an active version"
    return f"{asked.model}: wanted {wanted}, on this device are {versions}; push it first"
