"""Random kill -9 across real transfers: nothing is left stuck or half done. A failure names the seed to repeat it."""

import os
import random
from pathlib import Path

import pytest

from tests.brokers import running_mosquitto
from tests.system.harness import system
from tests.system.random_kills import VICTIMS, spree

SEED = int(os.environ.get("EDGEFERRY_SEED", random.randrange(1 << 32)))


def kill(folder: Path, kills: int) -> None:
    with running_mosquitto(folder) as broker, system(folder / "system", broker) as fleet:
        made = spree(fleet, SEED)
        for line in made.run(kills):
            print(line)

    assert made.kills.total() == kills
    assert set(made.kills) == set(VICTIMS)


@pytest.mark.acceptance
@pytest.mark.timeout(600)
def test_after_50_random_kills_nothing_is_stuck_or_half_done(tmp_path: Path) -> None:
    kill(tmp_path, 50)


@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
def test_after_1000_random_kills_nothing_is_stuck_or_half_done(tmp_path: Path) -> None:
    kill(tmp_path, 1000)
