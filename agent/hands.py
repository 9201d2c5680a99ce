"""The processes that run models, as the performer uses them: the trial process and the serving process."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import psutil

from edgeferry.agent.performer import LoadRefusedError, ServingLostError
from edgeferry.agent.serving_client import Serve, ServingClient, ServingError, Takeover
from edgeferry.agent.trial import TrialCancelledError, run_trial
from edgeferry.device_profiles import DeviceProfile, Swap
from edgeferry.wire.codec import WireError
from edgeferry.wire.desired import STABLE, decode_manifest
from edgeferry.wire.messages import Code, Problem, Reason

__all__ = ["ModelHands"]

logger = logging.getLogger(__name__)

_REFUSED = {Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT, Code.NOT_FOUND}  # of the model; all else may pass


class ModelHands:
    """Tries, loads and unloads models within the limits of the device's profile; called in worker threads."""

    def __init__(
        self, client: ServingClient, profile: DeviceProfile, on_trial: Callable[[int], None] | None = None
    ) -> None:
        """Begin with nothing loaded.

        Args:
            client: Of the serving process.
            profile: Of the device.
            on_trial: Takes the id of each trial process.
        """
        self._client = client
        self._profile = profile
        self._on_trial = on_trial
        self._cancel = threading.Event()

    def try_model(self, model: Path, manifest: Path, selftest: Path) -> Problem | None:
        """Return why the candidate must not serve, or None when it passed its self-test."""
        self._cancel.clear()
        limits = self._profile.trial
        try:
            report = run_trial(
                model,
                manifest,
                selftest,
                threads=self._profile.serving.threads,
                timeout_s=limits.timeout_s,
                memory_limit_bytes=limits.memory_limit_bytes,
                cancel=self._cancel,
                on_started=self._on_trial,
            )
        except TrialCancelledError as err:
            return Problem(code=Code.CANCELLED, reason=Reason.TRIAL_CRASHED, detail=str(err))
        except OSError as err:
            detail = f"cannot start the trial process: {err}"
            return Problem(code=Code.RESOURCE_EXHAUSTED, reason=Reason.TRIAL_CRASHED, detail=detail)
        return report.problem

    def cancel_trial(self) -> None:
        """End a running trial; from any thread."""
        self._cancel.set()

    def load(self, wanted: Serve) -> Takeover:
        """Have a version served, and return how it took over.

        Where memory cannot hold the old version and the new one, the old one is unloaded first, and nobody answers
        until the new one does.

        Raises:
            ServingLostError: The serving process is gone or does not answer.
            LoadRefusedError: It will not serve this, or there is no room for one version more.
        """
        try:
            stops_first = self._stops_first(wanted)
            takeover = self._client.load(wanted, stops_first=stops_first)
        except ServingError as err:
            if err.code in _REFUSED:
                raise LoadRefusedError(Problem(code=err.code, reason=err.reason, detail=err.detail)) from err
            raise ServingLostError(err.detail) from err
        return takeover

    def unload(self, model: str, label: str) -> None:
        """Have a label name nothing.

        Raises:
            ServingLostError: The serving process is gone or does not answer.
        """
        try:
            self._client.unload(model, label)
        except ServingError as err:
            raise ServingLostError(err.detail) from err

    def _stops_first(self, wanted: Serve) -> bool:
        """Tell whether the version that serves now has to go before ``wanted`` is loaded.

        Raises:
            ServingError: Nobody answers.
            LoadRefusedError: There is no room, and none can be made.
        """
        serving = self._profile.serving
        stats = self._client.stats()
        if str(wanted.version) in stats.get("models", {}).get(wanted.model, {}):
            return False  # a label moves, nothing is loaded
        lack = _lack_of_room(wanted, int(stats.get("rss_bytes", 0)), serving.memory_limit_bytes)
        if serving.swap is Swap.STOP_FIRST:
            lack = f"the profile {self._profile.name} has room for one version at a time (swap: stop_first)"
        if lack and wanted.label != STABLE:
            detail = f"{wanted.model} {wanted.version} cannot serve as {wanted.label} beside what serves: {lack}"
            problem = Problem(code=Code.RESOURCE_EXHAUSTED, reason=Reason.MEMORY_LIMIT, detail=detail)
            raise LoadRefusedError(problem)
        if lack:
            logger.info("%s: the version before is unloaded first: %s", wanted.model, lack)
        return bool(lack)


def _lack_of_room(wanted: Serve, held_bytes: int, limit_bytes: int) -> str:
    """Return why the version does not fit beside what is loaded; empty when it does, or when its size is unknown."""
    try:
        needed_bytes = decode_manifest(wanted.manifest.read_bytes()).memory_bytes
    except (OSError, WireError):
        return ""  # the serving process says what is wrong with it
    free_bytes = psutil.virtual_memory().available
    if held_bytes + needed_bytes > limit_bytes:
        found = f"{held_bytes >> 20} MiB are held of the {limit_bytes >> 20} MiB that the profile allows"
    elif needed_bytes > free_bytes:
        found = f"{free_bytes >> 20} MiB of the machine are free"
    else:
        return ""
    return f"it needs {needed_bytes >> 20} MiB, and {found}"
