"""Conversions from every source of samples: each is read or prepared, locked, and made again."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgeferry.converter.commands.verify import verify

PROFILE = ("-p", "raspberry-pi-4", "--scheme", "int8")


def lock_of(output: Path) -> dict:
    (path,) = output.glob("digits/1/*/lock.json")
    return json.loads(path.read_text())


@pytest.fixture
def arrays(linear) -> dict[str, dict[str, np.ndarray]]:
    """Return the samples of `linear` by role."""
    return {role: dict(np.load(path)) for role, path in (("train", linear.calibration), ("test", linear.evaluation))}


def save_compressed(folder: Path, role: str, arrays: dict[str, np.ndarray]) -> Path:
    np.savez_compressed(folder / f"{role}.npz", **arrays)
    return folder / f"{role}.npz"


def save_folder(folder: Path, role: str, arrays: dict[str, np.ndarray]) -> Path:
    (folder / role).mkdir()
    for name, array in arrays.items():
        np.save(folder / role / f"{name}.npy", array)
    return folder / role


def save_by_columns(folder: Path, role: str, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(folder / f"{role}.npz", x=np.asfortranarray(arrays["x"]), y=arrays["y"])
    return folder / f"{role}.npz"


@pytest.mark.parametrize("save", [save_compressed, save_folder, save_by_columns])
def test_the_same_samples_give_the_same_model_however_they_are_saved(tmp_path, linear, run, arrays, save):
    saved = {role: save(tmp_path, role, some) for role, some in arrays.items()}
    samples = ("--calibration", str(saved["train"]), "--evaluation", str(saved["test"]))

    plain = run(linear.arguments(tmp_path / "plain", *PROFILE))
    other = run([str(linear.model), "--name", "digits", *samples, "-o", str(tmp_path / "other"), *PROFILE])

    assert (plain.exit_code, other.exit_code) == (0, 0), other.output
    made = [lock_of(tmp_path / name)["steps"][-1]["outputs"]["model.tflite"]["sha256"] for name in ("plain", "other")]
    assert made[0] == made[1]


def test_what_was_prepared_is_prepared_again_to_verify_the_model(tmp_path, linear, run, arrays):
    saved = save_compressed(tmp_path, "train", arrays["train"])
    run(linear.arguments(tmp_path / "out", *PROFILE, "--calibration", str(saved)))

    made_again = CliRunner().invoke(verify, [str(tmp_path / "out" / "digits" / "1")])
    np.savez_compressed(saved, x=arrays["train"]["x"] * 2)
    changed = CliRunner().invoke(verify, [str(tmp_path / "out" / "digits" / "1")])

    assert made_again.output.endswith(": the same, byte for byte\n")
    assert "calibration" in {one["role"] for one in lock_of(tmp_path / "out")["inputs"]}
    assert (changed.exit_code, "is not what the artifact was made from" in changed.output) == (2, True)
