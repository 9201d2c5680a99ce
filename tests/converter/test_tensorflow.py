"""Models that TensorFlow wrote: converted by the command, or refused with a sentence."""

import json

import numpy as np
import pytest

from edgeferry.inference.model import Model
from edgeferry.wire.desired import decode_manifest

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("tensorflow"), pytest.mark.timeout(300)]


def arguments(sources, model: str, output, *more: str) -> list[str]:
    folder = sources.folder
    samples = ["--calibration", str(folder / "train.npz"), "--evaluation", str(folder / "test.npz")]
    return [str(folder / model), "--name", "cnn", "-p", "raspberry-pi-4", *samples, "-o", str(output), *more]


def test_a_keras_model_becomes_int8_for_two_profiles(sources, run, tmp_path):
    result = run(arguments(sources, "cnn.keras", tmp_path, "-p", "generic-x86-64", "--max-drop", "0.02"))

    assert result.exit_code == 0, result.stderr
    for profile in ("raspberry-pi-4", "generic-x86-64"):
        folder = tmp_path / "cnn" / "1" / profile
        manifest = decode_manifest((folder / "artifact.json").read_bytes())
        assert manifest.scheme == "int8"
        assert manifest.inputs[0].name == "image"
        assert manifest.inputs[0].shape == (1, 8, 8, 1)
        assert manifest.outputs[0].name == "quarter"
        assert manifest.evaluation["float"] == pytest.approx(sources.facts["cnn"]["accuracy"])
        assert sources.facts["cnn"]["accuracy"] > 0.9


def test_the_report_tells_by_the_layers_own_names_what_was_fused(sources, run, tmp_path):
    result = run(arguments(sources, "cnn.keras", tmp_path, "--scheme", "float32"))

    assert result.exit_code == 0, result.stderr
    fusion = json.loads((tmp_path / "cnn" / "1" / "raspberry-pi-4" / "report.json").read_text())["fusion"]
    layers = ["conv2d", "batch_normalization", "re_lu"]
    assert fusion["fused"][0] == {"index": 0, "operator": "CONV_2D", "layers": layers, "activation": "relu"}
    assert fusion["unfused"] == []


@pytest.mark.parametrize("model", ["cnn.h5", "cnn_saved"])
def test_other_formats_give_the_same_float_model(sources, run, tmp_path, model):
    result = run(arguments(sources, model, tmp_path, "--scheme", "float32", "--json"))

    assert result.exit_code == 0, result.stderr
    evaluation = json.loads(result.stdout)["profiles"][0]["candidates"][0]["evaluation"]
    assert evaluation["candidate"] == pytest.approx(sources.facts["cnn"]["accuracy"])
    (spec,) = Model.load(tmp_path / "cnn" / "1" / "raspberry-pi-4" / "model.tflite").inputs
    assert spec.shape == (1, 8, 8, 1)


def test_both_engines_make_the_same_of_a_model_within_what_the_samples_can_show(sources, run, tmp_path):
    def int8_by(engine: str) -> dict:
        options = ["--engine", engine, "--scheme", "int8", "--max-drop", "0.05", "--json", "--model-version"]
        result = run(arguments(sources, "cnn.keras", tmp_path / engine, *options, "1"))
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)["profiles"][0]["candidates"][0]

    ours, theirs = int8_by("litert"), int8_by("tensorflow")

    low, high = ours["evaluation"]["drop_95"]
    assert low <= theirs["evaluation"]["drop"] <= high
    assert abs(ours["size_bytes"] - theirs["size_bytes"]) < 0.3 * theirs["size_bytes"]
    assert theirs["repaired_by"] == ""


def test_the_second_engine_makes_every_other_scheme_too(sources, run, tmp_path):
    options = [
        "--engine",
        "tensorflow",
        "--scheme",
        "float16",
        "--scheme",
        "dynamic_int8",
        "--max-drop",
        "0.05",
        "--json",
    ]

    result = run(arguments(sources, "cnn.keras", tmp_path, *options))

    assert result.exit_code == 0, result.stderr
    candidates = json.loads(result.stdout)["profiles"][0]["candidates"]
    assert [one["scheme"] for one in candidates if "evaluation" in one] == ["dynamic_int8", "float16"]


def test_another_signature_may_be_converted(sources, run, tmp_path):
    np.savez(tmp_path / "samples.npz", x=np.random.default_rng(0).random((20, 2), np.float32))
    samples = ["--evaluation", str(tmp_path / "samples.npz")]
    model = [str(sources.folder / "two_signatures"), "--name", "two", "-p", "raspberry-pi-4"]

    result = run([*model, *samples, "--signature", "b", "--scheme", "float32", "-o", str(tmp_path)])

    assert result.exit_code == 0, result.stderr
    converted = Model.load(tmp_path / "two" / "1" / "raspberry-pi-4" / "model.tflite")
    (name,) = (spec.name for spec in converted.inputs)
    np.testing.assert_allclose(converted.run({name: np.ones((1, 2), np.float32)})["y"], [[3, 3]])


def test_a_source_that_answers_no_numbers_is_told_as_what_it_is(sources, run, tmp_path):
    np.savez(tmp_path / "samples.npz", x=np.full((4, 2), 0.5, np.float32))
    model = [str(sources.folder / "not_finite"), "--name", "bad", "-p", "raspberry-pi-4", "-o", str(tmp_path / "out")]

    result = run([*model, "--evaluation", str(tmp_path / "samples.npz"), "--scheme", "float32"])

    assert result.exit_code == 1
    assert "output 'y' of the source itself is NaN or infinite for 4 of 4 samples" in result.stderr
    assert "[NOT_FINITE]" in result.stderr


def test_several_inputs_and_outputs_are_judged_by_agreement(sources, run, tmp_path):
    samples = str(sources.folder / "two_inputs.npz")

    result = run(
        [
            str(sources.folder / "two_inputs.keras"),
            "--name",
            "two",
            "-p",
            "raspberry-pi-4",
            "--json",
            "--calibration",
            samples,
            "--evaluation",
            samples,
            "-o",
            str(tmp_path),
            "--max-drop",
            "0.05",
            "--scheme",
            "int8",
            "--scheme",
            "float32",
        ]
    )

    assert result.exit_code == 0, result.stderr
    shown = json.loads(result.stdout)
    assert shown["held_out"] is False
    best = shown["profiles"][0]["candidates"][-1]
    assert (best["scheme"], best["evaluation"]["metric"]) == ("float32", "r2_agreement")
    manifest = decode_manifest((tmp_path / "two" / "1" / "raspberry-pi-4" / "artifact.json").read_bytes())
    assert {spec.name for spec in manifest.inputs} == {"words", "level"}
    assert {spec.name for spec in manifest.outputs} == {"kind", "amount"}


def test_two_inputs_are_named_in_the_complaint(sources, run, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.ones((3, 6)))

    result = run(
        [
            str(sources.folder / "two_inputs.keras"),
            "--name",
            "two",
            "-p",
            "raspberry-pi-4",
            "--calibration",
            str(tmp_path / "x.npz"),
            "-o",
            str(tmp_path),
        ]
    )

    assert result.exit_code == 1
    assert "holds 'x', but the model's inputs want 'level', 'words'" in result.stderr


def test_a_result_that_computes_something_else_is_refused(sources, run, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.ones((3, 2)))

    result = run(
        [
            *(str(sources.folder / "random"), "--name", "random", "-p", "raspberry-pi-4"),
            *("--calibration", str(tmp_path / "x.npz"), "-o", str(tmp_path / "out")),
        ]
    )

    assert result.exit_code == 1
    assert "random converts, but the result computes something else: " in result.stderr
    assert result.stderr.count("the source says") == 5
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("custom", "custom.keras cannot be loaded: it uses the custom class 'Doubler', whose code is not in the file"),
        ("lambda", "it has a Lambda layer, whose Python code could do anything"),
        ("subclassed", "is a subclassed model without fixed inputs"),
        ("cut", "cut.keras cannot be loaded: "),
        ("svd", "svd.keras does not convert: TensorFlow Lite has no built-in operation for Svd (in 'decompose'); "),
        ("svd", "replace that layer or operation by supported ones [OP_NOT_SUPPORTED]"),
        ("inverse", "built-in operation for MatrixInverse (in 'invert'), only TensorFlow itself has; replace"),
        ("inverse", "[SELECT_TF_NOT_ALLOWED]"),
        ("recurrent", "recurrent does not convert: TensorListReserve (in 'sequential_"),
        (
            "recurrent",
            "memory_1') collects the steps of a recurrent layer or loop, whose shape is open; save the model",
        ),
        ("recurrent", "or convert its .keras file [OPEN_DIMENSION]"),
        (
            "loop_v1",
            "loop_v1 does not convert: TensorArrayV3 (in 'memory') belongs to a loop or branch of TensorFlow 1",
        ),
        ("loop_v1", "save the model again [CONTROL_FLOW_V1]"),
        ("two_signatures", "two_signatures has signatures a, b; name one with --signature"),
        ("one_signature", "nothing"),
        ("text", "text: input 'x' holds string; only numbers can be converted"),
        ("shapeless", "shapeless: input 'x' has no known number of dimensions"),
        ("junk", "empty cannot be loaded: "),
        ("foreign", "foreign uses the operation 'AddMy' (in 'add'), which is in a library of its own and not in"),
        ("foreign", "or leave it out of what is exported [CUSTOM_OPERATION]"),
    ],
)
def test_what_cannot_be_converted_is_told_in_a_sentence(sources, model, message):
    assert message in sources.messages[model]
    assert len(sources.messages[model].splitlines()) == 1


def test_a_model_that_makes_tensorflow_abort_is_told_with_the_operation_that_did_it(sources, run, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.ones((3, 2), np.float32))
    model = [str(sources.folder / "aborting"), "--name", "aborting", "-p", "raspberry-pi-4", "--scheme", "float32"]

    result = run([*model, "--evaluation", str(tmp_path / "x.npz"), "-o", str(tmp_path / "out")])

    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "edgeferry: converting aborting crashed with SIGABRT while running aborting as it is, computing Abort "
        "(in 'emergency'): Abort_op intentional failure; the brakes failed; replace that operation, or leave its layer "
        "out of what is exported [CHILD_CRASHED]"
    )
    assert not (tmp_path / "out").exists()


def test_a_graph_of_tensorflow_1_keeps_its_variables_and_its_names(sources, run, tmp_path):
    random = np.random.default_rng(0)
    np.savez(tmp_path / "xz.npz", **{name: random.random((8, 3), np.float32) for name in "xz"})
    model = [str(sources.folder / "graph_v1"), "--name", "old", "-p", "raspberry-pi-4", "--scheme", "float32"]

    result = run([*model, "--evaluation", str(tmp_path / "xz.npz"), "-o", str(tmp_path)])

    assert result.exit_code == 0, result.stderr  # what it computes has been compared with the graph
    converted = Model.load(tmp_path / "old" / "1" / "raspberry-pi-4" / "model.tflite")
    assert {spec.name for spec in converted.inputs} == {"x", "z"}
    assert {spec.name for spec in converted.outputs} == {"y", "difference"}


@pytest.mark.acceptance
def test_an_open_time_axis_becomes_what_it_is_in_the_samples(sources, run, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((8, 7, 3), np.float32))
    model = [str(sources.folder / "recurrent.keras"), "--name", "memory", "-p", "raspberry-pi-4", "--scheme", "float32"]

    result = run([*model, "--evaluation", str(tmp_path / "x.npz"), "-o", str(tmp_path)])

    assert result.exit_code == 0, result.stderr
    (spec,) = Model.load(tmp_path / "memory" / "1" / "raspberry-pi-4" / "model.tflite").inputs
    assert spec.shape == (1, 7, 3)


def test_operations_of_tensorflow_that_a_profile_allows_need_a_runtime_that_has_them(sources, run, tmp_path):
    (tmp_path / "flexible.yaml").write_text(
        "extends: generic-x86-64\ntitle: a runtime of my own\nallow_select_tf_ops: true\n"
    )
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((8, 3, 3), np.float32))
    model = [str(sources.folder / "inverse" / "saved_model"), "--name", "inverse", "--scheme", "float32"]
    samples = ["--evaluation", str(tmp_path / "x.npz"), "-o", str(tmp_path / "out")]

    result = run([*model, "-p", str(tmp_path / "flexible.yaml"), *samples])

    assert "saved_model needs TensorFlow's own operation 'MatrixInverse' (in 'invert')" in result.stderr
    assert "which the runtime on this machine (ai-edge-litert" in result.stderr
    assert "[SELECT_TF_NOT_RUNNABLE]" in result.stderr
