"""Reads one telemetry in a worker: the machine, the serving process, the pipelines; and has a hot board cool down."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from edgeferry.agent.serving_client import ServingError
from edgeferry.agent.telemetry import MachineSensors, ServingFigures
from edgeferry.agent.thermostat import share_after
from edgeferry.device_profiles.profile import Thermal
from edgeferry.wire.codec import WireError
from edgeferry.wire.messages import PipelineTelemetry, Telemetry

__all__ = ["Sampler", "Serving"]

logger = logging.getLogger(__name__)


class Serving(Protocol):
    """The serving process, as `ServingClient` speaks to it."""

    def stats(self) -> dict[str, Any]:
        """Return its figures."""

    def set_share(self, share: float) -> None:
        """Have models run for no more than ``share`` of the time."""


class Sampler:
    """Owned by one worker.

    Args:
        sensors: Of the machine.
        serving: The serving process.
        pipelines: Tells how each pipeline does.
        thermal: What is done against heat; None for nothing.
        boot: Random id of this start of the agent.
        interval_s: Between two readings.
    """

    def __init__(
        self,
        sensors: MachineSensors,
        serving: Serving,
        pipelines: Callable[[], Mapping[str, PipelineTelemetry]],
        thermal: Thermal | None,
        *,
        boot: str,
        interval_s: float,
    ) -> None:
        self._sensors = sensors
        self._serving = serving
        self._pipelines = pipelines
        self._thermal = thermal
        self._boot = boot
        self._interval_s = interval_s

    def read(self, served: Mapping[str, Mapping[str, int]]) -> Telemetry:
        """Return the figures of this moment; ``served`` tells the versions of each model that answer, by label."""
        try:
            figures = ServingFigures(self._serving.stats(), served)
        except (ServingError, WireError) as err:
            logger.debug("no figures from the serving process: %s", err)
            figures = None
        telemetry = self._sensors.read(
            boot=self._boot, interval_s=self._interval_s, serving=figures, pipelines=self._pipelines()
        )
        if self._thermal and figures:
            self._cool(self._thermal, figures.share, telemetry.cpu_temp_c)
        return telemetry

    def _cool(self, policy: Thermal, share: float, temp_c: float | None) -> None:
        """Change how much models may run; the serving process remembers, and forgets when it is started anew."""
        wanted = share_after(policy, share, temp_c)
        if wanted == share:
            return
        try:
            self._serving.set_share(wanted)
        except ServingError as err:
            logger.warning("models go on running for %.0f %% of the time: %s", share * 100, err)
        else:
            logger.info("models run for at most %.0f %% of the time, at %s degrees Celsius", wanted * 100, temp_c)
