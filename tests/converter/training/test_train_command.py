"""``edgeferry train``: from options to files, and what it says when that cannot be."""

import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgeferry.converter.commands.train import train
from edgeferry.converter.formats.registry import detect
from edgeferry.converter.repair.plan import Rung
from edgeferry.converter.request import ConversionRequest
from edgeferry.converter.samples import Samples
from edgeferry.converter.stages import Stages
from edgeferry.converter.workshop import Workshop
from edgeferry.device_profiles import Scheme, load_profile
from edgeferry.inference.model import Model

tensorflow = [pytest.mark.tensorflow, pytest.mark.xdist_group("training"), pytest.mark.timeout(300)]


def invoke(*arguments: object):
    return CliRunner().invoke(train, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a file that looks like a Keras model to whoever does not load it."""
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    np.savez(tmp_path / "train.npz", x=np.zeros((4, 2), np.float32), y=np.arange(4))
    return tmp_path / "model.keras"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no technique is asked for; give --technique, one of distillation, pruning, clustering, qat"),
        (
            ["--technique", "qad"],
            "--technique 'qad' is not known; wanted one of distillation, pruning, clustering, qat",
        ),
        (["--technique", "pruning", "--pattern", "4:2"], "--pattern '4:2' is not known; wanted one of unstructured"),
        (["--technique", "distillation", "--student", "half"], "--student 'half': wanted the share of channels"),
        (["--technique", "qat"], "no samples to learn from; give --data train.npz"),
        (["--technique", "qat", "--data", "none.npz"], "none.npz: No such file or directory"),
        (["--recipe", "none.yaml"], "none.yaml: No such file or directory; wanted a recipe, a YAML file"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_starts(model, tmp_path, options, message):
    result = invoke(model, *options, "-o", tmp_path / "out")

    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_pictures_are_prepared_as_they_are_declared_before_anything_is_trained(model, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "cat.png").write_bytes(b"no picture")
    (tmp_path / "p.yaml").write_text("kind: image")
    given = ["--technique", "qat", "--data", tmp_path / "pictures", "-o", tmp_path / "out"]

    undeclared = invoke(model, *given)
    declared = invoke(model, *given, "--preprocessing", tmp_path / "p.yaml")

    assert (undeclared.exit_code, declared.exit_code) == (2, 1)
    assert "say with --preprocessing FILE.yaml how they become inputs" in undeclared.stderr
    assert "preparing pictures" in declared.stderr
    assert "cat.png: is no picture of a kind that is read" in declared.stderr
    assert not (tmp_path / "out").exists()


def test_a_recipe_is_told_with_its_line(model, tmp_path):
    (tmp_path / "recipe.yaml").write_text("techniques: [qat]\nepoch: 3\n")

    result = invoke(model, "--recipe", tmp_path / "recipe.yaml", "-o", tmp_path / "out")

    assert result.exit_code == 2
    assert 'recipe.yaml:2: epoch is not a known key; did you mean "epochs"?' in result.stderr


def test_a_folder_that_holds_something_is_left_alone(model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()

    result = invoke(model, "--technique", "qat", "--data", tmp_path / "train.npz", "-o", tmp_path / "out")

    assert result.exit_code == 2
    assert "out: is there already; name a new folder with -o" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious"]


def test_a_file_that_is_no_keras_model_is_told(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(16))
    np.savez(tmp_path / "train.npz", x=np.zeros((4, 2), np.float32))

    result = invoke(
        tmp_path / "model.tflite", "--technique", "qat", "--data", tmp_path / "train.npz", "-o", tmp_path / "o"
    )

    assert result.exit_code == 2
    assert "training needs the Keras model that it was made of, .keras or .h5" in result.stderr


class TestTraining:
    """With TensorFlow, on the net of the converter's tests."""

    pytestmark = tensorflow

    def test_options_are_enough_for_an_int8_model_with_its_proof(self, sources, tmp_path):
        folder, out = sources.folder, tmp_path / "out"
        samples = ["--data", folder / "train.npz", "--evaluation", folder / "test.npz"]

        result = invoke(folder / "cnn.keras", "--technique", "qat", *samples, "--epochs", 2, "-o", out)

        assert result.exit_code == 0, result.stderr
        assert sorted(path.name for path in out.iterdir()) == ["model.keras", "model.tflite", "training.json"]
        (spec,) = Model.load(out / "model.tflite").inputs
        assert (spec.name, spec.datatype, spec.shape) == ("image", "INT8", (1, 8, 8, 1))
        told = json.loads((out / "training.json").read_text())
        assert told["agreement"] >= 0.995
        assert told["evaluation"]["float_score"] == pytest.approx(sources.facts["cnn"]["accuracy"])
        assert told["evaluation"]["drop"] < 0.03
        assert told["after"]["file_bytes"] == (out / "model.tflite").stat().st_size
        assert (told["recipe"]["seed"], told["complete"], told["held_out"]) == (0, True, True)
        assert "quantization-aware training, epoch 2 of 2: loss" in result.stderr
        assert f"Wrote {out}" in result.stdout

    def test_interrupted_it_ends_with_the_best_weights_so_far(self, sources, tmp_path):
        folder, out = sources.folder, tmp_path / "out"
        command = [sys.executable, "-m", "edgeferry.fleet", "train", str(folder / "cnn.keras"), "--technique", "qat"]
        command += ["--data", str(folder / "train.npz"), "--epochs", "10000", "-o", str(out)]

        with subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
        ) as process:
            deadline = threading.Timer(120, process.kill)
            deadline.start()
            for line in process.stderr:
                if "epoch 1 of" in line:
                    process.send_signal(signal.SIGINT)
                    break
            stdout, stderr = process.communicate()
            deadline.cancel()

        assert process.returncode == 0, stderr
        assert "ending with the best weights so far" in stderr
        told = json.loads((out / "training.json").read_text())
        assert not told["complete"]
        assert 1 <= len(told["epochs"]) < 10_000
        assert f"Wrote {out}" in stdout


@pytest.mark.acceptance
@pytest.mark.tensorflow
@pytest.mark.timeout(600)
def test_the_last_rung_of_the_repair_ladder_trains_the_source(sources, tmp_path):
    model, (train_file, test_file) = (
        sources.folder / "cnn.keras",
        (sources.folder / f"{n}.npz" for n in ("train", "test")),
    )
    profile = load_profile("generic-x86-64")
    request = ConversionRequest(model, "cnn", (profile,), tmp_path, train_file, test_file, trains=True)
    workshop = Workshop(request, Samples.load(test_file), tmp_path, lambda _: None, Stages())
    float_model = workshop.make_float(detect(model))
    variant = request.variants(profile)[Scheme.INT8]

    findings = workshop.attempt(variant, Rung.TRAINING, float_model)

    (attempt,) = findings.attempts
    repaired = replace(variant, repair=attempt.repair)
    made = workshop.judge(repaired, findings.folder / attempt.file, float_model)
    assert made.candidate.repaired_by == "quantization-aware training"
    assert made.candidate.evaluation.drop < 0.03
    assert made.candidate.size_bytes < float_model.candidate.size_bytes
