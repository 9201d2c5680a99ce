from pathlib import Path

import pytest

from tests.trust.simulator import Device, Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """A fleet with the device cam-1, to which version 1 of digits was pushed."""
    fleet = Fleet(tmp_path)
    fleet.enroll("cam-1", "porch")
    fleet.push(1)
    return fleet


@pytest.fixture
def new_device(fleet: Fleet, tmp_path: Path) -> Device:
    """cam-1, which has joined and seen nothing yet."""
    return Device(tmp_path / "run", fleet.repository.roots()[1])


@pytest.fixture
def device(fleet: Fleet, new_device: Device) -> Device:
    """cam-1, which believes what is published."""
    new_device.follow(fleet.broker(), fleet.now_ms)
    return new_device
