"""Training gives back what int8 takes, on real data."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.real_data import handwritten_digits

pytestmark = [pytest.mark.acceptance, pytest.mark.tensorflow, pytest.mark.timeout(900)]

SCALED = Path(__file__).parents[1] / "scaled_digits.py"
# One thread: sums in another order make another net, which loses more or less.
ENVIRONMENT = {
    **os.environ,
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_NUM_INTRAOP_THREADS": "1",
    "KERAS_BACKEND": "tensorflow",
}


def run(*words: object) -> str:
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=800, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_recovers_what_int8_loses_of_a_net_with_rescaled_channels(tmp_path: Path) -> None:
    x, y = handwritten_digits()
    np.savez(tmp_path / "train.npz", x=x[:4000], y=y[:4000])
    np.savez(tmp_path / "test.npz", x=x[4000:], y=y[4000:])
    run(
        "-m",
        "edgeferry.converter.training.image_classifier",
        tmp_path / "train.npz",
        tmp_path / "a.keras",
        "--epochs",
        8,
    )
    run(SCALED, tmp_path / "a.keras", tmp_path / "net.keras")
    held_out = ["--evaluation", tmp_path / "test.npz", "--json"]

    plain = _int8(tmp_path, held_out)
    trained = json.loads(
        run("-m", "edgeferry.fleet", "train", tmp_path / "net.keras", "--technique", "qat", "--data",
            tmp_path / "train.npz", *held_out, "-o", tmp_path / "trained")
    )  # fmt: skip

    lost = plain["float"] - plain["candidate"]
    recovered = trained["evaluation"]["score"] - plain["candidate"]
    assert lost > 0.02
    assert recovered >= 0.8 * lost
    assert trained["agreement"] >= 0.995


def _int8(folder: Path, held_out: list[Any]) -> dict[str, float]:
    """Return the scores of the float model and of its int8 without repairs."""
    options = ["-p", "generic-x86-64", "--name", "net", "--scheme", "int8", "--no-repair", "--max-drop", 1]
    samples = ["--calibration", folder / "train.npz", *held_out]
    told = json.loads(
        run("-m", "edgeferry.fleet", "convert", folder / "net.keras", *options, *samples, "-o", folder / "converted")
    )
    evaluation: dict[str, float] = told["profiles"][0]["candidates"][0]["evaluation"]
    return evaluation
