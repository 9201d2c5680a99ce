"""Samples through a model on this machine."""

import json

import numpy as np
import pytest

from edgeferry.inference.model import Model
from tests.models import artifact_folder, linear_model, reciprocal_model, say_what_it_is, two_signature_model

FEATURES = 64


@pytest.fixture
def samples(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.random.default_rng(1).random((20, FEATURES), np.float32))
    return path


def test_a_float_model_gives_what_the_runtime_gives(tmp_path, samples, run_predict):
    path = linear_model(tmp_path / "m.tflite", features=FEATURES)
    x = np.load(samples)["x"]

    result = run_predict(path, "--input", samples, "--output", tmp_path / "y.npz")

    assert result.exit_code == 0, result.stderr
    outputs = np.load(tmp_path / "y.npz")["scores"]
    model = Model.load(path)
    assert np.array_equal(outputs, np.concatenate([model.run({"x": row[None]})["scores"] for row in x]))
    assert "20 samples, " in result.stdout
    assert result.stderr == f"outputs written to {tmp_path / 'y.npz'}\n"


def test_a_quantized_model_takes_and_gives_real_values(tmp_path, samples, run_predict):
    real = linear_model(tmp_path / "real.tflite", features=FEATURES)
    quantized = linear_model(tmp_path / "quantized.tflite", features=FEATURES, quantized=True)

    for path in (real, quantized):
        assert run_predict(path, "--input", samples, "--output", path.with_suffix(".npy")).exit_code == 0

    difference = np.abs(np.load(real.with_suffix(".npy")) - np.load(quantized.with_suffix(".npy")))
    assert 0 < difference.max() < 0.2


def test_integers_of_the_models_own_are_taken_as_they_are(tmp_path, samples, run_predict):
    path = linear_model(tmp_path / "m.tflite", features=FEATURES, quantized=True)
    x = np.load(samples)["x"]
    np.save(tmp_path / "own.npy", np.clip(np.rint(x * 255) - 128, -128, 127).astype(np.int8))

    run_predict(path, "--input", samples, "--output", tmp_path / "a.npy")
    result = run_predict(path, "--input", tmp_path / "own.npy", "--output", tmp_path / "b.npy")

    assert result.exit_code == 0, result.stderr
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


def test_an_artifact_is_run_with_its_labels(tmp_path, samples, run_predict):
    result = run_predict(artifact_folder(tmp_path), "--input", samples, "--json")

    told = json.loads(result.stdout)
    assert told["samples"] == 20
    (output,) = told["outputs"]
    assert output["shape"] == [20, 10]
    assert output["best"][0][0]["name"].startswith("class-")
    assert told["latency_ms"] > 0


def test_a_tflite_alone_is_run_with_the_name_and_the_labels_that_it_has_in_itself(tmp_path, samples, run_predict):
    say_what_it_is(linear_model(tmp_path / "m.tflite", features=FEATURES, quantized=True))
    (tmp_path / "elsewhere").mkdir()
    moved = (tmp_path / "m.tflite").rename(tmp_path / "elsewhere" / "unnamed.tflite")

    told = json.loads(run_predict(moved, "--input", samples, "--json").stdout)
    text = run_predict(moved, "--input", samples).stdout

    assert told["model"] == "digits 3, int8"
    assert told["outputs"][0]["type"] == "float32"
    assert told["outputs"][0]["best"][0][0]["name"].startswith("class-")
    assert "20 samples through digits 3, int8, " in text


def test_labels_of_another_model_are_left_out_with_a_word(tmp_path, samples, run_predict):
    path = linear_model(tmp_path / "m.tflite", features=FEATURES, quantized=True)
    say_what_it_is(path, outputs=())

    result = run_predict(path, "--input", samples)

    assert result.exit_code == 0
    assert "speaks of other tensors than it has; its labels are left out" in result.stderr
    assert "class-" not in result.stdout


def test_the_signature_that_is_named_is_run_in_whichever_subgraph(tmp_path, run_predict):
    path = two_signature_model(tmp_path / "m.tflite")
    np.save(tmp_path / "x.npy", np.array([[3, 4], [5, 6]], np.float32))

    answers = {}
    for options in ((), ("--signature", "serving_default"), ("--signature", "square")):
        result = run_predict(path, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy", *options)
        assert result.exit_code == 0, result.stderr
        answers[options[1:]] = np.load(tmp_path / "y.npy").tolist()

    assert answers == {
        (): [[6, 8], [10, 12]],
        ("serving_default",): [[6, 8], [10, 12]],
        ("square",): [[9, 16], [25, 36]],
    }


def test_a_signature_that_is_not_there_is_a_mistake_of_usage(tmp_path, samples, run_predict):
    result = run_predict(two_signature_model(tmp_path / "m.tflite"), "--input", samples, "--signature", "other")

    assert result.exit_code == 2
    assert "--signature 'other': m.tflite has serving_default, square" in result.stderr


def test_one_sample_alone_is_run_alone(tmp_path, run_predict):
    np.save(tmp_path / "one.npy", np.zeros(FEATURES, np.float32))

    result = run_predict(linear_model(tmp_path / "m.tflite", features=FEATURES), "--input", tmp_path / "one.npy")

    assert result.stdout.splitlines()[0].startswith("scores: float32[1, 10], ")


def test_labels_beside_the_samples_tell_how_many_are_right(tmp_path, run_predict):
    x = np.random.default_rng(1).random((5, FEATURES), np.float32)
    path = linear_model(tmp_path / "m.tflite", features=FEATURES)
    model = Model.load(path)
    y = np.array([model.run({"x": row[None]})["scores"].argmax() for row in x])
    np.savez(tmp_path / "xy.npz", x=x, y=y)

    result = run_predict(path, "--input", tmp_path / "xy.npz")

    assert "scores: 100.00% of 5 are the class that y says" in result.stdout


def test_more_samples_than_are_shown_are_counted(tmp_path, samples, run_predict):
    result = run_predict(linear_model(tmp_path / "m.tflite", features=FEATURES), "--input", samples)

    assert "  and 10 more samples; --output writes all" in result.stdout


def test_samples_that_do_not_fit_are_told(tmp_path, run_predict):
    np.savez(tmp_path / "x.npz", x=np.zeros((3, 7)))

    result = run_predict(linear_model(tmp_path / "m.tflite"), "--input", tmp_path / "x.npz")

    assert result.exit_code == 1
    assert result.stderr == (
        f"edgeferry: {tmp_path / 'x.npz'}: the array for input 'x' has shape [3, 7], wanted [samples, 64] "
        "[SAMPLES_UNUSABLE]\n"
    )


def test_a_sample_on_which_the_model_fails_is_named(tmp_path, run_predict):
    np.save(tmp_path / "x.npy", np.array([1, 0]))

    result = run_predict(reciprocal_model(tmp_path / "m.tflite"), "--input", tmp_path / "x.npy")

    assert result.exit_code == 1
    assert "sample 1: the model failed to run" in result.stderr


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("y.txt", "ends in '.txt'; wanted .npz, or .npy for a single output"),
        ("nowhere/y.npz", "cannot be written; choose a file in a folder that is there"),
    ],
)
def test_an_output_that_cannot_be_is_told_before_anything_is_run(tmp_path, run_predict, output, message):
    result = run_predict(tmp_path / "missing.tflite", "--input", "missing.npz", "--output", tmp_path / output)

    assert result.exit_code == 2
    assert message in result.stderr


def test_what_is_missing_is_a_mistake_of_usage(tmp_path, samples, run_predict):
    model = linear_model(tmp_path / "m.tflite")

    assert run_predict(tmp_path / "missing.tflite", "--input", samples).exit_code == 2
    assert run_predict(model, "--input", tmp_path / "missing.npz").exit_code == 2
    assert run_predict(model, "--input", tmp_path).exit_code == 2


@pytest.mark.acceptance
@pytest.mark.tensorflow
@pytest.mark.xdist_group("tensorflow")
@pytest.mark.timeout(300)
def test_a_saved_model_is_run_as_it_is(sources, tmp_path, run_predict):
    result = run_predict(sources.folder / "cnn_saved", "--input", sources.folder / "test.npz", "--json")

    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["right"]["output_0"] == pytest.approx(sources.facts["cnn"]["accuracy"])


@pytest.mark.acceptance
@pytest.mark.tensorflow
@pytest.mark.xdist_group("tensorflow")
@pytest.mark.timeout(300)
def test_any_signature_of_a_saved_model_is_run(sources, tmp_path, run_predict):
    np.save(tmp_path / "x.npy", np.array([[1, 2]], np.float32))
    output = tmp_path / "y.npy"

    result = run_predict(
        sources.folder / "two_signatures", "--input", tmp_path / "x.npy", "--output", output, "--signature", "b"
    )

    assert result.exit_code == 0, result.stderr
    assert np.load(output).tolist() == [[3, 4]]


@pytest.mark.acceptance
@pytest.mark.tensorflow
@pytest.mark.xdist_group("tensorflow")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("model", ["cnn.keras", "cnn.h5"])
def test_keras_models_are_run_as_they_are(sources, tmp_path, run_predict, model):
    result = run_predict(sources.folder / model, "--input", sources.folder / "test.npz", "--json")

    assert json.loads(result.stdout)["right"]["quarter"] == pytest.approx(sources.facts["cnn"]["accuracy"])


@pytest.mark.acceptance
@pytest.mark.tensorflow
@pytest.mark.xdist_group("tensorflow")
@pytest.mark.timeout(300)
def test_several_inputs_and_outputs_go_by_name(sources, tmp_path, run_predict):
    model, inputs = sources.folder / "two_inputs.keras", sources.folder / "two_inputs.npz"

    result = run_predict(model, "--input", inputs, "--output", tmp_path / "y.npz")
    refused = run_predict(model, "--input", inputs, "--output", tmp_path / "y.npy")

    assert result.exit_code == 0, result.stderr
    assert {name: array.shape for name, array in np.load(tmp_path / "y.npz").items()} == {
        "kind": (30, 5),
        "amount": (30, 1),
    }
    assert refused.exit_code == 2
    assert "holds one array, the model's outputs are kind, amount; name a .npz file" in refused.stderr


@pytest.mark.acceptance
@pytest.mark.tensorflow
@pytest.mark.xdist_group("tensorflow")
@pytest.mark.timeout(300)
def test_a_saved_model_that_makes_tensorflow_abort_is_told_with_the_operation_that_did_it(
    sources, tmp_path, run_predict
):
    np.save(tmp_path / "x.npy", np.ones((1, 2), np.float32))

    result = run_predict(sources.folder / "aborting", "--input", tmp_path / "x.npy")

    assert result.exit_code == 1
    assert "crashed with SIGABRT while running aborting, computing Abort (in 'emergency'): " in result.stderr
    assert "[CHILD_CRASHED]" in result.stderr
