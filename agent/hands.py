"""The processes that run models, as the performer uses them: the trial process and the serving process."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from edgeferry.agent.performer import LoadRefusedError, ServingLostError
from edgeferry.agent.serving_client import ServingClient, ServingError
from edgeferry.agent.trial import TrialCancelledError, run_trial
from edgeferry.device_profiles import DeviceProfile, Swap
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

    def load(self, name: str, version: int, model: Path, manifest: Path, label: str) -> None:
        """Have a version served.

        Where the profile says that memory cannot hold two versions, the old one is unloaded first, and nobody answers
        until the new one does.

        Raises:
            ServingLostError: The serving process is gone or does not answer.
            LoadRefusedError: It will not serve this.
        """
        if self._profile.serving.swap is Swap.STOP_FIRST:
            logger.info("%s: unloaded first, as the profile %s says", name, self._profile.name)
            self.unload(name)
        try:
            self._client.load(name, version, path=model, manifest=manifest, label=label)
        except ServingError as err:
            if err.code in _REFUSED:
                raise LoadRefusedError(Problem(code=err.code, reason=err.reason, detail=err.detail)) from err
            raise ServingLostError(err.detail) from err

    def unload(self, name: str) -> None:
        """Have a model forgotten.

        Raises:
            ServingLostError: The serving process is gone or does not answer.
        """
        try:
            self._client.unload(name)
        except ServingError as err:
            raise ServingLostError(err.detail) from err
