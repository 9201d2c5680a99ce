"""Conversions from every source of samples: each is read or prepared, locked, and made again."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from edgeferry.converter.commands.predict import predict
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


@pytest.mark.parametrize("save", [save_compressed, save_folder])
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
        (
            lambda root: (root / "pictures.yaml").write_text(DECLARED.replace("width: 8", "width: 9")),
            "/test: array for input 'x' has shape (126, 8, 9, 3), wanted (samples, 8, 8, 3)",
        ),
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


FUNCTION = """
import numpy

def train():
    with numpy.load("train.npz") as arrays:
        yield from zip(arrays["x"], arrays["y"])

def test():
    with numpy.load("test.npz") as arrays:
        yield from zip(arrays["x"], arrays["y"])
"""


@pytest.fixture
def yielding(tmp_path, arrays, monkeypatch) -> Path:
    """Return the current folder, with a module whose functions yield the samples of `linear`."""
    for role, some in arrays.items():
        np.savez(tmp_path / f"{role}.npz", **some)
    (tmp_path / "my_data.py").write_text(FUNCTION)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_samples_can_be_yielded_by_a_function(yielding, linear, run):
    given = ("--calibration", "my_data:train", "--evaluation", "my_data:test")

    result = run(linear.arguments(yielding / "out", *PROFILE, *given))

    assert result.exit_code == 0, result.output
    (artifact,) = (yielding / "out" / "digits" / "1").iterdir()
    told = json.loads((artifact / "report.json").read_text())
    made = lock_of(yielding / "out")["steps"][0]
    assert told["calibration"]["name"] == "my_data:train"
    assert told["calibration"]["sha256"] == made["outputs"]["samples"]["sha256"]
    assert read_metadata(artifact / "model.tflite").calibration_sha256 == told["calibration"]["sha256"]


def test_code_that_a_lock_names_runs_only_when_it_is_named_again(yielding, linear, run):
    run(linear.arguments(yielding / "out", *PROFILE, "--calibration", "my_data:train"))
    artifact = str(yielding / "out" / "digits" / "1")

    unnamed = CliRunner().invoke(verify, [artifact])
    named = CliRunner().invoke(verify, [artifact, "--calibration", "my_data:train"])
    (yielding / "my_data.py").write_text(FUNCTION.replace('arrays["x"],', '-arrays["x"],'))
    changed = CliRunner().invoke(verify, [artifact, "--calibration", "my_data:train"])

    assert unnamed.exit_code == 2
    assert "came from 'my_data:train', which is code; give the same with --calibration" in unnamed.output
    assert named.exit_code == 0, named.output
    assert (changed.exit_code, "preparing my_data:train gives other bytes" in changed.output) == (1, True)


def test_a_function_is_asked_again_each_time(yielding, linear, run, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(yielding / "cache"))
    command = linear.arguments(yielding / "out", *PROFILE, "--calibration", "my_data:train")
    assert run(command).exit_code == 0

    (yielding / "my_data.py").write_text("def train():\n    raise RuntimeError('the disk with the data is away')")
    again = run(command)

    assert again.exit_code == 1
    assert "my_data:train failed: RuntimeError: the disk with the data is away (my_data.py, line 2)" in again.output


def test_a_table_gives_a_model_its_samples(tmp_path, linear, run, arrays):
    columns = [f"pixel {at}" for at in range(64)]
    for role, some in arrays.items():
        rows = [
            ",".join([f"class-{y}", *map(repr, x.tolist())]) for x, y in zip(some["x"] * 100, some["y"], strict=True)
        ]
        (tmp_path / f"{role}.csv").write_text("\n".join([",".join(["what", *columns]), *rows]))
    (tmp_path / "names.txt").write_text("\n".join(f"class-{at}" for at in range(10)))
    declared = f"kind: series\ncolumns: [{', '.join(columns)}]\nlabel: what\nscale: 1/100\n"
    (tmp_path / "p.yaml").write_text(declared)
    given = ["--calibration", str(tmp_path / "train.csv"), "--evaluation", str(tmp_path / "test.csv")]

    result = run(
        linear.arguments(
            tmp_path / "out",
            *PROFILE,
            *given,
            *("--preprocessing", str(tmp_path / "p.yaml"), "--labels", str(tmp_path / "names.txt")),
        )
    )

    assert result.exit_code == 0, result.output
    (artifact,) = (tmp_path / "out" / "digits" / "1").iterdir()
    assert json.loads((artifact / "artifact.json").read_text())["evaluation"]["float"] == 1.0
    assert CliRunner().invoke(verify, [str(artifact)]).exit_code == 0


def test_a_converted_model_predicts_pictures_as_it_says_itself(pictures, run, tmp_path):
    run(command(pictures))
    (artifact,) = (pictures / "out" / "digits" / "1").iterdir()
    (pictures / "moved.tflite").write_bytes((artifact / "model.tflite").read_bytes())

    moved = CliRunner().invoke(
        predict, [str(pictures / "moved.tflite"), "--input", str(pictures / "test"), "--output", f"{tmp_path}/y.npy"]
    )
    one = CliRunner().invoke(
        predict, [str(artifact), "--input", str(pictures / "test" / CLASSES[0] / "black.png"), "--json"]
    )
    source = CliRunner().invoke(predict, [str(pictures / "net.tflite"), "--input", str(pictures / "test")])
    told = CliRunner().invoke(
        predict,
        [
            str(pictures / "net.tflite"),
            "--input",
            str(pictures / "test"),
            "--preprocessing",
            f"{pictures}/pictures.yaml",
        ],
    )

    count = len(list((pictures / "test").rglob("*.png")))
    assert moved.exit_code == 0, moved.output
    assert f"of {count} are the class that y says" in moved.output
    assert "class-0 (" in moved.output
    assert np.load(tmp_path / "y.npy").shape == (count, 6)
    assert json.loads(one.stdout)["samples"] == 1
    assert (source.exit_code, told.exit_code) == (2, 0), told.output
    assert "the model does not say how data becomes its input; say it with --preprocessing" in source.output


def test_arrays_are_not_preprocessed_to_predict(linear, tmp_path):
    (tmp_path / "p.yaml").write_text("kind: image")
    given = [str(linear.model), "--input", str(linear.evaluation), "--preprocessing", str(tmp_path / "p.yaml")]

    result = CliRunner().invoke(predict, given)

    assert (result.exit_code, "taken as they are; leave --preprocessing out" in result.output) == (2, True)


def test_a_function_can_be_predicted(yielding, linear):
    result = CliRunner().invoke(predict, [str(linear.model), "--input", "my_data:test"])

    assert result.exit_code == 0, result.output
    assert "scores: 100.00% of 500 are the class that y says" in result.output
