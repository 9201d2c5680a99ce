"""One telemetry, and what is done when it says that the board is hot."""

from pathlib import Path
from typing import Any

import pytest

from edgeferry.agent.sampling import Sampler
from edgeferry.agent.serving_client import ServingError
from edgeferry.agent.telemetry import MachineSensors
from edgeferry.device_profiles.profile import Thermal
from edgeferry.wire.messages import Code, PipelineTelemetry, Reason

from .test_telemetry import STATS, sensor

PIPELINE = PipelineTelemetry("cats", 1, 1, 0, 0, 0)


class SimulatedServing:
    """A serving process that remembers its share."""

    def __init__(self) -> None:
        self.share = 1.0
        self.is_deaf = False
        self.is_gone = False

    def stats(self) -> dict[str, Any]:
        if self.is_gone:
            raise ServingError(Code.UNAVAILABLE, Reason.SERVING_UNAVAILABLE, "gone")
        return STATS | {"share": self.share}

    def set_share(self, share: float) -> None:
        if self.is_deaf:
            raise ServingError(Code.UNAVAILABLE, Reason.SERVING_UNAVAILABLE, "deaf")
        self.share = share


@pytest.fixture
def serving() -> SimulatedServing:
    return SimulatedServing()


def sampler(folder: Path, serving: SimulatedServing, thermal: Thermal | None = None) -> Sampler:
    sensors = MachineSensors(folder, root=folder)
    return Sampler(sensors, serving, lambda: {"porch": PIPELINE}, thermal, boot="cafe", interval_s=10.0)


def test_machine_serving_and_pipelines_are_told_together(tmp_path: Path, serving: SimulatedServing) -> None:
    telemetry = sampler(tmp_path, serving).read({"cats": {"stable": 1}})

    assert telemetry.boot == "cafe"
    assert telemetry.mem_pct is not None
    assert telemetry.models["cats"].version == 1
    assert (telemetry.serving_share, telemetry.pipelines) == (1.0, {"porch": PIPELINE})


def test_a_serving_process_that_is_gone_is_left_out(tmp_path: Path, serving: SimulatedServing) -> None:
    serving.is_gone = True

    telemetry = sampler(tmp_path, serving, Thermal(70, 60)).read({})

    assert (telemetry.models, telemetry.serving_share) == ({}, None)


def test_a_hot_board_has_its_models_run_less(tmp_path: Path, serving: SimulatedServing) -> None:
    sensor(tmp_path, "sys/class/thermal/thermal_zone0/temp", "81000\n")
    made = sampler(tmp_path, serving, Thermal(slow_above_c=75, full_below_c=65))

    shares = [made.read({}).serving_share for _ in range(3)]

    assert shares == pytest.approx([1.0, 0.8, 0.64])


def test_without_a_policy_the_firmware_is_left_alone_with_the_heat(tmp_path: Path, serving: SimulatedServing) -> None:
    sensor(tmp_path, "sys/class/thermal/thermal_zone0/temp", "99000\n")

    sampler(tmp_path, serving).read({})

    assert serving.share == 1.0


def test_a_share_that_is_not_taken_is_tried_again(tmp_path: Path, serving: SimulatedServing) -> None:
    sensor(tmp_path, "sys/class/thermal/thermal_zone0/temp", "81000\n")
    made = sampler(tmp_path, serving, Thermal(slow_above_c=75, full_below_c=65))
    serving.is_deaf = True
    made.read({})
    serving.is_deaf = False

    made.read({})

    assert serving.share == pytest.approx(0.8)
