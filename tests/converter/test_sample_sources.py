"""Conversions from every source of samples: each is read or prepared, locked, and made again."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from edgeferry.converter.commands.verify import verify
from edgeferry.converter.preprocessing_file import read_preprocessing
from edgeferry.inference.metadata import read_metadata
from edgeferry.inference.model import Model
from edgeferry.inference.preprocessing import as_data
from tests.models import convolutional_model

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


DECLARED = """
kind: image
resize: {height: 8, width: 8}
scale: 1/255
mean: [0.5, 0.4, 0.3]
"""
CLASSES = tuple(f"class-{number}" for number in range(6))


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Return a folder with a model, pictures in folders called after what it says of them, and their declaration."""
    model = Model.load(convolutional_model(tmp_path / "net.tflite"))
    (tmp_path / "pictures.yaml").write_text(DECLARED)
    declared = read_preprocessing(tmp_path / "pictures.yaml")
    random = np.random.default_rng(0)
    for role, count in (("train", 30), ("test", 120)):
        for name in CLASSES:
            (tmp_path / role / name).mkdir(parents=True)
        Image.new("RGB", (9, 7)).save(tmp_path / role / CLASSES[0] / "black.png")
        for number in range(count):
            pixels = random.integers(0, 256, (11, 9, 3)).astype(np.uint8)
            scores = model.run({"x": declared.finished(declared.fitted(pixels)[np.newaxis])})["scores"]
            name = CLASSES[int(scores.argmax())]
            Image.fromarray(pixels).save(tmp_path / role / name / f"{number}.png")
        for name in CLASSES:  # a class that the net never sees has to have a picture, too
            Image.new("RGB", (9, 7)).save(tmp_path / role / name / "black.png")
    return tmp_path


def command(folder: Path, *more: str) -> list[str]:
    samples = ["--calibration", str(folder / "train"), "--evaluation", str(folder / "test")]
    declared = ["--preprocessing", str(folder / "pictures.yaml")]
    wanted = ["-p", "raspberry-pi-4", "--name", "digits", "--scheme", "int8", "--max-drop", "1"]
    return [str(folder / "net.tflite"), *samples, *declared, *wanted, "-o", str(folder / "out"), *more]


def test_folders_of_pictures_give_a_model_that_says_how_it_sees_and_what(pictures, run):
    result = run(command(pictures))

    assert result.exit_code == 0, result.output
    (artifact,) = (pictures / "out" / "digits" / "1").iterdir()
    manifest = json.loads((artifact / "artifact.json").read_text())
    said = read_metadata(artifact / "model.tflite")
    declared = as_data(read_preprocessing(pictures / "pictures.yaml"))
    assert manifest["preprocessing"] == said.preprocessing == declared
    assert tuple(manifest["labels"]) == said.labels == CLASSES
    assert manifest["evaluation"]["metric"] == "accuracy"
    assert manifest["evaluation"]["float"] > 0.9  # all but the black pictures are where the net itself puts them
    assert json.loads((artifact / "report.json").read_text())["preprocessing"] == declared


def test_a_model_of_pictures_is_made_again_from_them(pictures, run):
    run(command(pictures))
    artifact = str(pictures / "out" / "digits" / "1")

    made_again = CliRunner().invoke(verify, [artifact])
    (pictures / "moved.yaml").write_text((pictures / "pictures.yaml").read_text())
    (pictures / "pictures.yaml").write_text(DECLARED.replace("0.5", "0.6"))
    changed = CliRunner().invoke(verify, [artifact])
    told = CliRunner().invoke(verify, [artifact, "--preprocessing", str(pictures / "moved.yaml")])
    Image.new("RGB", (9, 7), "white").save(pictures / "train" / CLASSES[0] / "black.png")
    repainted = CliRunner().invoke(verify, [artifact, "--preprocessing", str(pictures / "moved.yaml")])

    assert (made_again.exit_code, told.exit_code) == (0, 0), made_again.output
    assert (changed.exit_code, repainted.exit_code) == (2, 2)
    assert "is not what the artifact was made from" in changed.output
    assert "give it with --preprocessing" in changed.output


def test_pictures_are_prepared_once(pictures, run, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    entries = []
    for _ in range(2):
        assert run(command(pictures)).exit_code == 0
        entries.append(sorted(path.name for path in (tmp_path / "cache").glob("edgeferry/converter/entries/*")))

    assert entries[0] == entries[1]
    assert len(lock_of(pictures / "out")["steps"]) == 4  # both folders, the float model, int8


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "train" / CLASSES[2] / "black.png").write_bytes(b""), "black.png: is no picture"),
        (lambda root: (root / "test" / CLASSES[2]).rename(root / "test" / "zebra"), "only one has 'class-2'"),
        (lambda root: (root / "pictures.yaml").write_text("kind: image"), "bring all to one size with resize"),
        (lambda root: (root / "pictures.yaml").write_text("kind: video"), "pictures.yaml:1: kind: found 'video'"),
        (lambda root: (root / "pictures.yaml").unlink(), "No such file or directory; wanted a YAML file"),
    ],
)
def test_what_is_wrong_with_pictures_is_told_and_nothing_is_written(pictures, run, damage, message):
    damage(pictures)

    result = run(command(pictures))

    assert result.exit_code in {1, 2}
    assert message in result.output
    assert not (pictures / "out" / "digits").exists()


def test_folders_that_are_not_as_many_as_classes_are_refused(pictures, run):
    for role in ("train", "test"):
        for path in (pictures / role / CLASSES[5]).iterdir():
            path.unlink()
        (pictures / role / CLASSES[5]).rmdir()

    result = run(command(pictures))
    (pictures / "names.txt").write_text("\n".join(CLASSES))
    named = run(command(pictures, "--labels", str(pictures / "names.txt")))

    assert (result.exit_code, named.exit_code) == (2, 0), named.output
    assert "has 5 names, but the model's output is scores[1, 6]; wanted a name for every class" in result.output


def test_a_folder_of_pictures_needs_a_declaration(pictures, run):
    given = command(pictures)
    at = given.index("--preprocessing")

    result = run(given[:at] + given[at + 2 :])

    assert result.exit_code == 2
    assert "say with --preprocessing FILE.yaml how they become inputs" in result.output


def test_arrays_are_taken_as_they_are_and_the_declaration_is_carried(tmp_path, linear, run):
    (tmp_path / "p.yaml").write_text("kind: audio\nsample_rate_hz: 8000\nwindow: 64\nscale: 2")

    result = run(linear.arguments(tmp_path / "out", *PROFILE, "--preprocessing", str(tmp_path / "p.yaml")))

    assert result.exit_code == 0, result.output
    (artifact,) = (tmp_path / "out" / "digits" / "1").iterdir()
    assert read_metadata(artifact / "model.tflite").preprocessing["sample_rate_hz"] == 8000
    assert CliRunner().invoke(verify, [str(artifact)]).exit_code == 0
