"""What a ``.tflite`` and an artifact folder tell."""

import json

import pytest

from edgeferry.converter.errors import SourceError
from edgeferry.converter.inspection import inspect_model
from edgeferry.converter.inspection.tflite_facts import FusedOperator, OperatorKind
from edgeferry.converter.inspection.tflite_file import read_tflite
from tests.converter.inspection.tflite_models import write_tflite
from tests.models import artifact_folder, countdown_model, linear_model


def test_a_quantized_classifier_tells_operators_tensors_and_quantization(tmp_path):
    facts = read_tflite(linear_model(tmp_path / "m.tflite", features=64, classes=10, quantized=True))

    (use,) = facts.uses
    assert (use.name, use.kind, use.version, use.count) == ("FULLY_CONNECTED", OperatorKind.BUILTIN, 4, 1)
    assert (use.inputs, use.outputs) == (("int8", "int8", "int32"), ("int8",))
    assert (facts.macs, facts.weight_bytes) == (640, 640 + 40)
    assert facts.peak_activation_bytes == 64 + 10
    (graph,) = facts.subgraphs
    x, weights = graph.tensors[0], graph.tensors[1]
    assert (x.shape, x.type, x.is_constant, x.size_bytes) == ((1, 64), "int8", False, 64)
    assert x.quantization.scales == pytest.approx((1 / 255,))
    assert x.quantization.zero_points == (-128,)
    assert (weights.shape, weights.is_constant, weights.size_bytes) == ((10, 64), True, 640)
    (signature,) = facts.signatures
    assert (signature.key, signature.inputs, signature.outputs) == ("serving_default", {"x": 0}, {"scores": 3})


def test_a_loop_has_its_body_below_it(tmp_path, run_inspect):
    path = countdown_model(tmp_path / "m.tflite")

    facts = read_tflite(path)
    shown = run_inspect(path, "--tree")

    assert facts.subgraphs[0].operators[0].subgraphs == (1, 2)
    assert {use.name for use in facts.uses} == {"WHILE", "GREATER", "SUB"}
    assert [line.strip("|`- ").split(" ->")[0] for line in shown.stdout.splitlines()[1:]] == [
        "subgraph 0  (1 operator, peak 8 B)",
        "#0 WHILE",
        "subgraph 1  (1 operator, peak 5 B)",
        "#0 GREATER",
        "subgraph 2  (1 operator, peak 8 B)",
        "#0 SUB",
    ]


def test_open_dimensions_are_told(tmp_path, run_inspect):
    path = linear_model(tmp_path / "m.tflite", free_batch=True)

    shown = run_inspect(path)

    assert read_tflite(path).subgraphs[0].tensors[0].shape == (-1, 64)
    assert "[?, 64]" in shown.stdout
    assert "! has open dimensions" in shown.stdout


def test_custom_and_flex_operators_and_what_was_fused_are_told(tmp_path, run_inspect):
    path = write_tflite(
        tmp_path / "m.tflite",
        [("MyOwn", "a"), ("FlexErf", "b"), ("MUL", "net/bn/add;net/conv/Conv2D;net/conv/bias")],
        metadata={"min_runtime_version": b"1.5.0\0\0\0", "picture": bytes(2000)},
    )

    facts = read_tflite(path)
    shown = run_inspect(path).stdout

    assert facts.custom_operators == ("MyOwn",)
    assert facts.flex_operators == ("FlexErf",)
    assert facts.subgraphs[0].operators[2].fused == ("net/bn/add", "net/conv/Conv2D", "net/conv/bias")
    assert [(one.name, one.size_bytes, one.text) for one in facts.metadata] == [
        ("min_runtime_version", 8, "1.5.0"),
        ("picture", 2000, ""),
    ]
    assert "! needs TensorFlow's own operations (select TF ops): FlexErf" in shown
    assert "! needs custom operators: MyOwn" in shown
    assert facts.fusion.fused == (FusedOperator(2, "MUL", ("net/bn", "net/conv"), ""),)
    assert "net/bn + net/conv" in shown


def test_what_was_not_fused_is_told_with_its_reason(tmp_path, run_inspect):
    path = write_tflite(tmp_path / "m.tflite", [("SOFTMAX", "net/shares/Softmax"), ("RELU", "net/act/Relu")])

    shown = run_inspect(path).stdout
    fusion = json.loads(run_inspect(path, "--json").stdout)["details"]["fusion"]

    assert "SOFTMAX (net/shares) cannot apply an activation" in shown
    assert [(one["operator"], one["layer"]) for one in fusion["unfused"]] == [("RELU", "net/act")]


def test_a_check_names_every_operation_that_the_profile_cannot_run(tmp_path, run_inspect):
    path = write_tflite(tmp_path / "m.tflite", [("MyOwn", "net/mine"), ("FlexErf", "net/erf"), ("RELU", "net/relu")])

    result = run_inspect(path, "--check", "raspberry-pi-4")
    as_data = run_inspect(path, "--check", "raspberry-pi-4", "--json")

    assert result.exit_code == as_data.exit_code == 1
    assert "MyOwn is a custom operator" in result.stdout
    assert "(at net/mine)" in result.stdout
    assert "FlexErf is TensorFlow's own operation Erf" in result.stdout
    assert result.stdout.splitlines()[-1] == f"raspberry-pi-4 cannot run {path}: 3 operations, 2 problems"
    check = json.loads(as_data.stdout)["check"]
    assert {problem["rule"] for problem in check["problems"]} == {"custom", "flex"}
    assert check["places"] == {"MyOwn": ["net/mine"], "FlexErf": ["net/erf"]}


def test_a_check_that_finds_nothing_ends_well(tmp_path, run_inspect):
    path = linear_model(tmp_path / "m.tflite", quantized=True)

    result = run_inspect(path, "--check", "raspberry-pi-32bit")

    assert result.exit_code == 0
    assert result.stdout == f"raspberry-pi-32bit can run {path}: 1 operation, no problems\n"


def test_many_places_of_one_problem_are_told_by_the_first_ones(tmp_path, run_inspect):
    path = write_tflite(tmp_path / "m.tflite", [("MyOwn", f"net/{at}") for at in range(5)])

    assert "(at net/0, net/1, net/2, ...)" in run_inspect(path, "--check", "raspberry-pi-4").stdout


def test_an_artifact_folder_tells_its_manifest_too(tmp_path, run_inspect):
    folder = artifact_folder(tmp_path, version=3)

    inspection = inspect_model(folder)
    shown = run_inspect(folder).stdout

    assert (inspection.artifact.name, inspection.artifact.version) == ("digits", 3)
    assert [file.problem for file in inspection.artifact.files] == ["", ""]
    assert shown.startswith(f"{folder}: artifact digits 3 for generic-x86-64, int8: TensorFlow Lite model, ")
    assert inspect_model(folder.parent).artifact == inspection.artifact


def test_a_changed_model_in_an_artifact_is_told(tmp_path, run_inspect):
    folder = artifact_folder(tmp_path)
    data = bytearray((folder / "model.tflite").read_bytes())
    data[data.index(b"edgeferry test model")] ^= 1
    (folder / "model.tflite").write_bytes(data)
    (folder / "selftest.npz").write_bytes(b"other")

    shown = run_inspect(folder).stdout

    assert "! model.tflite has another SHA-256 than the manifest says" in shown
    assert "! selftest.npz has 5 bytes, not the manifest's" in shown


def test_a_version_with_artifacts_for_two_profiles_asks_which(tmp_path):
    artifact_folder(tmp_path)
    folder = artifact_folder(tmp_path, profile="raspberry-pi-4")

    with pytest.raises(SourceError, match="has artifacts for several profiles: generic-x86-64, raspberry-pi-4; name"):
        inspect_model(folder.parent)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "artifact.json").write_text("{}"), "convert the model again"),
        (lambda folder: (folder / "model.tflite").unlink(), "the model that it names is not there"),
    ],
)
def test_a_damaged_artifact_is_told(tmp_path, damage, message):
    folder = artifact_folder(tmp_path)
    damage(folder)

    with pytest.raises(SourceError, match=message):
        inspect_model(folder)


def test_a_signature_that_is_not_there_is_told_with_those_that_are(tmp_path, run_inspect):
    path = linear_model(tmp_path / "m.tflite")

    result = run_inspect(path, "--signature", "train")

    assert result.exit_code == 2
    assert result.stderr.endswith("has no signature 'train'; its signatures are: serving_default [REQUEST_WRONG]\n")
    assert run_inspect(path, "--signature", "serving_default").exit_code == 0


def test_a_model_without_a_signature_tells_the_names_of_its_tensors(tmp_path, run_inspect):
    shown = run_inspect(linear_model(tmp_path / "m.tflite", signature=False)).stdout

    assert "serving_default_x:0" in shown
    assert "StatefulPartitionedCall:0" in shown


def test_json_holds_every_fact(tmp_path, run_inspect):
    told = json.loads(run_inspect(linear_model(tmp_path / "m.tflite"), "--json").stdout)

    assert (told["format"], told["details"]["type"]) == ("tflite", "tflite")
    assert told["details"]["subgraphs"][0]["operators"][0]["macs"] == 640
    assert "check" not in told
