"""New versions by their difference to the one before, with real agents on real brokers."""

import hashlib
import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.models import artifact_folder, linear_model
from tests.system.harness import Agent, System

pytestmark = pytest.mark.broker

FEATURES = 100_000  # times ten classes: a model of 1 MB


def retrained(path: Path, *, steps: int) -> Path:
    """Write a model of which one weight in ten is so many steps beside those of before."""
    linear_model(path, features=FEATURES, quantized=True)
    model = np.frombuffer(bytearray(path.read_bytes()), np.int8)
    weights = model[len(model) // 2 : len(model) // 2 + FEATURES]
    weights[::10] = np.clip(weights[::10], -100, 100) + steps
    path.write_bytes(model.tobytes())
    return path


def version_folder(fleet: System, version: int) -> str:
    model = partial(retrained, steps=version)
    return str(artifact_folder(fleet.folder / "build", version=version, model=model).parent)


@pytest.fixture
def running(fleet: System) -> tuple[System, Agent]:
    """A device on which version 1 is active."""
    agent = fleet.add_agent("pi")
    agent.start()
    fleet.wait_online("pi")
    fleet.must("push", version_folder(fleet, 1))
    return fleet, agent


def size(text: str) -> float:
    """Return the bytes that ``12.3 kB`` says."""
    number, unit = text.split()
    return float(number) * {"B": 1, "kB": 1e3, "MB": 1e6}[unit]


def test_a_retrained_model_is_pushed_by_its_difference_and_the_push_says_what_that_saved(
    running: tuple[System, Agent],
) -> None:
    fleet, agent = running

    pushed = fleet.must("push", version_folder(fleet, 2))
    again = fleet.must("rollback", "digits", "--version", "1", "--json")

    said = re.search(r"sent (.+) where the whole would have been (.+)", pushed.stdout)
    assert said, pushed.stdout
    assert size(said[1]) < 0.2 * size(said[2])
    assert agent.lines_of("16 of 16 blocks made from")
    assert agent.saved_version("digits") == 1
    assert again.json[0]["moved_bytes"] == again.json[0]["whole_bytes"] == 0
    assert list((agent.state_dir / "partial").iterdir()) == []
    blobs = {path.name for path in (agent.state_dir / "blobs").iterdir()}
    assert blobs.isdisjoint(differences_in(fleet))


def differences_in(fleet: System) -> set[str]:
    plan = json.loads((fleet.fleet_dir / "published.json").read_bytes())["plan"]
    return {one["sha256"] for offered in plan["differences"].values() for one in offered}


def test_a_difference_that_is_not_what_was_signed_costs_time_only(running: tuple[System, Agent]) -> None:
    fleet, agent = running
    agent.stop()
    pending = fleet.run("push", version_folder(fleet, 2))
    assert pending.exit_code == 3, pending.stderr
    (difference,) = differences_in(fleet)
    path = fleet.fleet_dir / "blobs" / difference
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert hashlib.sha256(path.read_bytes()).hexdigest() != difference

    fleet.start("origin")
    agent.start()

    fleet.wait_for_version("pi", 2)
    assert agent.lines_of("goes on without differences")
