"""Fixtures of the converter's tests: models made once for the whole run, whichever worker comes first."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgeferry.converter.cli import convert
from edgeferry.inference.model import Model
from tests.models import linear_model

FEATURES = 64
CLASSES = 10


@dataclass(frozen=True)
class Case:
    """A float ``.tflite`` with samples that it classifies rightly."""

    model: Path
    calibration: Path
    evaluation: Path

    def arguments(self, output: Path, *more: str) -> list[str]:
        """Return the command line that converts it."""
        samples = ["--calibration", str(self.calibration), "--evaluation", str(self.evaluation)]
        return [str(self.model), "--name", "digits", *samples, "-o", str(output), *more]


@pytest.fixture(scope="session")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return a linear classifier, which needs no TensorFlow to be made or converted."""
    folder = tmp_path_factory.mktemp("linear")
    path = linear_model(folder / "linear.tflite", features=FEATURES, classes=CLASSES)
    model = Model.load(path)
    rng = np.random.default_rng(7)
    for name, count in (("train", 40), ("test", 500)):
        x = rng.random((10 * count, FEATURES), np.float32)
        scores = np.stack([model.run({"x": row[None]})["scores"][0] for row in x])
        clear = np.diff(np.sort(scores)[:, -2:])[:, 0] > 0.1  # far enough from a tie to outlive int8
        np.savez(folder / f"{name}.npz", x=x[clear][:count], y=scores.argmax(1)[clear][:count])
    return Case(path, folder / "train.npz", folder / "test.npz")


@pytest.fixture
def run() -> Callable[[list[str]], Result]:
    """Return a function that runs the command in this process; its children are real."""
    return lambda arguments: CliRunner().invoke(convert, arguments)


@dataclass(frozen=True)
class Sources:
    """Models that TensorFlow wrote, and what the converter said of those that cannot be converted."""

    folder: Path
    messages: dict[str, str]
    facts: dict[str, Any]


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """Return the models of `tensorflow_sources`, made by one process for all workers."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a folder of its own below the shared one
        shared = shared.parent
    folder = shared / "tensorflow_sources"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done.json").exists():
            script = Path(__file__).with_name("tensorflow_sources.py")
            made = subprocess.run(
                [sys.executable, str(script), str(folder)], capture_output=True, text=True, check=False
            )
            assert made.returncode == 0, made.stderr
    done = json.loads((folder / "done.json").read_text())
    return Sources(folder, done["messages"], done["facts"])
