"""A model that int8 ruins is repaired by the command, without labels, or the command says what else there is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models import convolutional_model


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net with rescaled channels, and samples without labels."""
    folder = tmp_path_factory.mktemp("rescaled")
    convolutional_model(folder / "net.tflite", rescaled=300)
    x = np.random.default_rng(1).random((120, 8, 8, 3), np.float32)
    np.savez(folder / "train.npz", x=x[:60])
    np.savez(folder / "test.npz", x=x[60:])
    return folder


def converted(run: Any, folder: Path, output: Path, *more: str) -> Any:
    samples = ["--calibration", str(folder / "train.npz"), "--evaluation", str(folder / "test.npz")]
    return run(
        [str(folder / "net.tflite"), "--name", "net", "-p", "raspberry-pi-4", *samples, "-o", str(output), *more]
    )


def test_a_net_that_int8_ruins_is_repaired_by_equalization(run: Any, folder: Path, tmp_path: Path) -> None:
    done = converted(run, folder, tmp_path, "--json")

    assert done.exit_code == 0, done.stderr
    (profile,) = json.loads(done.stdout)["profiles"]
    assert profile["scheme"] == "int8"
    assert profile["candidates"][0]["evaluation"]["candidate"] > 0.97
    assert profile["candidates"][0]["verdict"] == "chosen, repaired by cross-layer equalization"


def test_the_report_tells_why_and_what_each_rung_came_to(run: Any, folder: Path, tmp_path: Path) -> None:
    converted(run, folder, tmp_path)

    report = json.loads((tmp_path / "net" / "1" / "raspberry-pi-4" / "report.json").read_text())
    ranges, equalization = report["repairs"]["int8"]
    assert (ranges["rung"], ranges["is_enough"]) == ("better calibration", False)
    assert ranges["score"] < 0.6
    assert (equalization["rung"], equalization["is_enough"]) == ("cross-layer equalization", True)
    assert "differ in range by a factor of" in equalization["sentence"]


def test_without_repair_the_next_scheme_is_taken(run: Any, folder: Path, tmp_path: Path) -> None:
    done = converted(run, folder, tmp_path, "--no-repair", "--json")

    (profile,) = json.loads(done.stdout)["profiles"]
    assert profile["scheme"] == "float16"
    assert profile["candidates"][0]["evaluation"]["candidate"] < 0.6


def test_the_worst_layers_stay_in_float_where_nothing_else_is_enough(run: Any, folder: Path, tmp_path: Path) -> None:
    equalized = json.loads(converted(run, folder, tmp_path, "--json").stdout)["profiles"][0]["candidates"][0]
    a_little_less = 0.9 * equalized["evaluation"]["drop"]

    done = converted(run, folder, tmp_path, "--scheme", "int8", "--max-drop", f"{a_little_less:.12f}", "--json")

    assert done.exit_code == 0, done.stderr
    (profile,) = json.loads(done.stdout)["profiles"]
    assert profile["scheme"] == "mixed"
    assert "in float" in profile["candidates"][0]["verdict"]
    manifest = json.loads((tmp_path / "net" / "2" / "raspberry-pi-4" / "artifact.json").read_text())
    assert manifest["scheme"] == "mixed"


def test_what_cannot_be_repaired_is_refused_with_the_nearest_miss(run: Any, folder: Path, tmp_path: Path) -> None:
    done = converted(run, folder, tmp_path, "--scheme", "int8", "--max-drop", "0")

    assert done.exit_code == 1
    assert "no scheme keeps the budgets of raspberry-pi-4: nearest is int8: loses" in done.stderr
    assert not (tmp_path / "net").exists()


def test_candidates_that_do_not_fit_can_be_kept_to_look_into(run: Any, folder: Path, tmp_path: Path) -> None:
    options = ["--scheme", "int8", "--max-drop", "0", "--no-repair", "--keep-rejected", "--model-version", "3"]

    done = converted(run, folder, tmp_path, *options)

    place = tmp_path / "net" / "rejected-3"
    assert done.exit_code == 1
    assert f"its candidates are in {place}" in done.stderr
    assert sorted(path.name for path in (place / "raspberry-pi-4").iterdir()) == ["int8.tflite", "report.json"]
    (row,) = json.loads((place / "raspberry-pi-4" / "report.json").read_text())["candidates"]
    assert row["state"] == "rejected"
    assert [path.name for path in (tmp_path / "net").iterdir()] == ["rejected-3"]


@pytest.mark.parametrize(("io", "datatype"), [("uint8", "UINT8"), ("float32", "FP32")])
def test_an_integer_model_has_the_inputs_that_are_asked_for(
    run: Any, folder: Path, tmp_path: Path, io: str, datatype: str
) -> None:
    done = converted(run, folder, tmp_path, "--io", io, "--scheme", "int8")

    assert done.exit_code == 0, done.stderr
    manifest = json.loads((tmp_path / "net" / "1" / "raspberry-pi-4" / "artifact.json").read_text())
    assert (manifest["inputs"][0]["datatype"], manifest["outputs"][0]["datatype"]) == (datatype, datatype)


@pytest.mark.parametrize("option", ["--io", "--objective", "--metric"])
def test_an_unknown_word_is_told_with_those_that_are_known(run: Any, folder: Path, tmp_path: Path, option: str) -> None:
    done = converted(run, folder, tmp_path, option, "best")

    assert done.exit_code == 2
    assert f"{option} 'best' is not known; wanted one of " in done.stderr
