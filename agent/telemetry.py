"""How the machine is doing: processor, memory, disk, network and temperature, as one `Telemetry`.

A sensor that is absent or refuses is left out, never guessed; it ends nothing.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import psutil

from edgeferry.agent import sensors
from edgeferry.wire.codec import WireError
from edgeferry.wire.desired import STABLE
from edgeferry.wire.messages import LabelTelemetry, ModelTelemetry, PipelineTelemetry, Telemetry

__all__ = ["MachineSensors", "ServingFigures", "hardware"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_ROOT = Path("/")
_LOW_VOLTAGE, _SLOWED = 0x1, 0xE  # of the firmware's word


class ServingFigures:
    """What the serving process says of itself, reduced to what telemetry carries."""

    def __init__(self, stats: Mapping[str, Any], served: Mapping[str, Mapping[str, int]]) -> None:
        """Read ``stats``, as `/edgeferry/stats` answers it; ``served`` tells each model's versions by label."""
        try:
            self.rss_bytes = int(stats["rss_bytes"])
            self.queue_depth = int(stats["queue_depth"])
            self.share = float(stats["share"])
            everything = [figures for versions in stats["models"].values() for figures in versions.values()]
            self.total = sum(int(figures["total"]) for figures in everything)
            self.errors_total = sum(int(figures["errors_total"]) for figures in everything)
            self.rps = round(sum(float(figures["rps"]) for figures in everything), 2)
            found = {model: _by_label(stats["models"].get(model, {}), labels) for model, labels in served.items()}
            self.models = {model: _model_telemetry(labels) for model, labels in found.items() if STABLE in labels}
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise WireError(f"serving statistics: {err!r}") from err


def _by_label(versions: Mapping[str, Any], labels: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Return the fields of each label's figures; none of a version that is not loaded."""
    return {
        label: {
            "version": version,
            "rps": float(figures["rps"]),
            "total": int(figures["total"]),
            "errors_total": int(figures["errors_total"]),
            **{name: figures[name] for name in ("p50_ms", "p95_ms", "p99_ms", "queue_p95_ms") if name in figures},
        }
        for label, version in labels.items()
        if (figures := versions.get(str(version))) is not None
    }


def _model_telemetry(labels: Mapping[str, Mapping[str, Any]]) -> ModelTelemetry:
    others = {label: LabelTelemetry(**fields) for label, fields in labels.items() if label != STABLE}
    return ModelTelemetry(**labels[STABLE], labels=others)


class MachineSensors:
    """Reads the machine. Owned by one thread: the share of the processor is that since the reading before.

    Args:
        state_dir: On the partition whose room is told.
        root: Below which ``sys`` and ``proc`` are.
    """

    def __init__(self, state_dir: Path, *, root: Path = _ROOT) -> None:
        self._state_dir = state_dir
        self._root = root
        self._seq = 0
        _sensed(psutil.cpu_percent)  # the first call measures from here

    def read(
        self,
        *,
        boot: str,
        interval_s: float,
        serving: ServingFigures | None,
        pipelines: Mapping[str, PipelineTelemetry] | None = None,
    ) -> Telemetry:
        """Return the figures of this moment."""
        self._seq += 1
        memory = _sensed(psutil.virtual_memory)
        disk = _sensed(lambda: psutil.disk_usage(str(self._state_dir)))
        network = _sensed(psutil.net_io_counters)
        firmware = _sensed(lambda: sensors.firmware_word(self._root))
        return Telemetry(
            v=1,
            ts=time.time_ns() // 1_000_000,
            boot=boot,
            seq=self._seq,
            interval_s=interval_s,
            uptime_s=_sensed(lambda: int(time.time() - psutil.boot_time())),
            cpu_pct=_sensed(psutil.cpu_percent),
            load1=_sensed(lambda: round(os.getloadavg()[0], 2)),
            cpu_temp_c=_sensed(lambda: sensors.cpu_temp_c(self._root)),
            cpu_mhz=_sensed(_frequency_mhz),
            throttled=bool(firmware & _SLOWED) if firmware is not None else None,
            undervoltage=bool(firmware & _LOW_VOLTAGE) if firmware is not None else None,
            wifi_dbm=_sensed(lambda: sensors.wifi_dbm(self._root)),
            storage_used_pct=_sensed(lambda: sensors.storage_used_pct(self._root)),
            mem_pct=memory.percent if memory else None,
            mem_used_bytes=memory.used if memory else None,
            mem_avail_bytes=memory.available if memory else None,
            agent_rss_bytes=_sensed(lambda: psutil.Process().memory_info().rss),
            serving_rss_bytes=serving.rss_bytes if serving else None,
            disk_pct=disk.percent if disk else None,
            disk_free_bytes=disk.free if disk else None,
            net_rx_bytes=network.bytes_recv if network else None,
            net_tx_bytes=network.bytes_sent if network else None,
            infer_total=serving.total if serving else None,
            infer_errors_total=serving.errors_total if serving else None,
            infer_rps=serving.rps if serving else None,
            queue_depth=serving.queue_depth if serving else None,
            serving_share=serving.share if serving else None,
            models=serving.models if serving else {},
            pipelines=dict(pipelines or {}),
        )


def hardware(*, root: Path = _ROOT) -> dict[str, str | int]:
    """Return what the machine says of itself: model and revision of a board, architecture, cores and memory."""
    board = _sensed(lambda: sensors.board(root))
    cores = _sensed(psutil.cpu_count)
    memory = _sensed(psutil.virtual_memory)
    return {
        **(board or {}),
        "arch": os.uname().machine,
        "cores": cores or 1,
        **({"memory_bytes": memory.total} if memory else {}),
    }


def _sensed(sensor: Callable[[], T]) -> T | None:
    """Return what ``sensor`` reads, or None for one that this machine lacks, refuses or cannot read."""
    try:
        return sensor()
    except (OSError, RuntimeError, ValueError, psutil.Error) as err:
        logger.debug("left a sensor out: %r", err)
        return None


def _frequency_mhz() -> float | None:
    frequency = psutil.cpu_freq()
    return round(frequency.current, 1) if frequency else None
