"""The loop with its real parts on a real directory."""

from pathlib import Path

from .disk_faults import FaultyDisk
from .simulated import MODEL, Fleet, SimulatedAgent


def test_a_published_model_becomes_active(tmp_path: Path) -> None:
    fleet = Fleet()
    fleet.publish(fleet.artifact(1))

    disk = FaultyDisk()
    agent = SimulatedAgent(tmp_path / "device", fleet, disk=disk)
    agent.run()
    print(len(disk.operations), disk.operations)

    assert agent.hands.serving == {MODEL: 1}
