"""Models trained on real data from packages, converted for four kinds of devices, and judged on held-out samples."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.real_data import exercises, faces, handwritten_digits

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.tensorflow,
    pytest.mark.xdist_group("tensorflow"),
    pytest.mark.timeout(600),
]

PROFILES = ("raspberry-pi-zero-2w", "raspberry-pi-4", "raspberry-pi-5", "generic-x86-64")
# how to load them, what the float model reaches at least, and the loss that so many held-out samples can show
DATA = {"digits": (handwritten_digits, 0.95, 0.02), "faces": (faces, 0.90, 0.08), "exercises": (exercises, 0.90, 0.02)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with NAME.keras, NAME.train.npz and NAME.test.npz for each kind of data."""
    folder = tmp_path_factory.mktemp("trained")
    for name, (load, *_) in DATA.items():
        x, y = load()
        held_out = len(x) // 4
        np.savez(folder / f"{name}.train.npz", x=x[held_out:], y=y[held_out:])
        np.savez(folder / f"{name}.test.npz", x=x[:held_out], y=y[:held_out])
    script = Path(__file__).with_name("real_trainings.py")
    subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True, timeout=300)
    return folder


def converted(run: Any, folder: Path, name: str, output: Path, *more: str) -> Any:
    profiles = [word for profile in PROFILES for word in ("-p", profile)]
    samples = ["--calibration", f"{folder}/{name}.train.npz", "--evaluation", f"{folder}/{name}.test.npz"]
    done = run([f"{folder}/{name}.keras", "--name", name, *profiles, *samples, "-o", str(output), "--json", *more])
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def candidate(result: Any, scheme: str) -> Any:
    return next(one for one in result["profiles"][0]["candidates"] if one["scheme"] == scheme)


@pytest.mark.parametrize("name", DATA)
def test_a_trained_model_is_converted_for_four_kinds_of_devices(
    run: Any, trained: Path, tmp_path: Path, name: str
) -> None:
    _, accuracy, max_drop = DATA[name]

    result = converted(run, trained, name, tmp_path, "--max-drop", str(max_drop))

    assert [one["profile"] for one in result["profiles"]] == list(PROFILES)
    assert {one["scheme"] for one in result["profiles"]} == {"int8"}
    int8, float32 = candidate(result, "int8"), candidate(result, "float32")
    assert float32["evaluation"]["float"] > accuracy
    assert int8["size_bytes"] <= 0.30 * float32["size_bytes"]
    print(name, json.dumps({"int8": int8, "float32": float32}), file=sys.stderr)
