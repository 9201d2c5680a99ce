"""`push`, `rollback`, `status` and `infer` as a user runs them, against fake devices on real brokers."""

import pytest

from edgeferry.wire.messages import Outcome
from tests.fleet.conftest import Fleet

pytestmark = pytest.mark.broker


def test_a_push_ends_with_0_when_every_device_runs_the_version(fleet: Fleet) -> None:
    fleet.add("pi-1")
    fleet.add("pi-2")
    one, two = fleet.switch_on("pi-1"), fleet.switch_on("pi-2")

    pushed = fleet.run("push", fleet.artifact(1))

    assert pushed.exit_code == 0, pushed.stderr
    assert "active on 2 of 2 devices" in pushed.stdout
    assert one.state.models["digits"].labels == two.state.models["digits"].labels == {"stable": 1}
