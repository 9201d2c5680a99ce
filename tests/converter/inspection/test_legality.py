"""Which operations a profile's runtime cannot run, and why."""

import dataclasses

import pytest

from edgeferry.converter.inspection.tflite_facts import OperatorKind, OperatorUse
from edgeferry.converter.legality import Rule, data_type, problems
from edgeferry.device_profiles import load_profile

PI = load_profile("raspberry-pi-4")
PI_32 = load_profile("raspberry-pi-32bit")
CORAL = load_profile("coral-dev-board")


def use(name: str, version: int = 1, kind: str = "builtin", inputs=("int8",), outputs=("int8",)) -> OperatorUse:
    return OperatorUse(name, OperatorKind(kind), version, tuple(inputs), tuple(outputs))


def allowing_flex(profile):
    return dataclasses.replace(profile, allow_select_tf_ops=True)


@pytest.mark.parametrize("profile", [PI, PI_32, CORAL], ids=lambda profile: profile.name)
def test_the_operators_of_an_int8_classifier_run_everywhere(profile):
    names = ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "AVERAGE_POOL_2D", "RESHAPE", "SOFTMAX", "ADD", "MEAN"]

    assert problems([use(name) for name in names], profile) == ()


def test_a_version_that_the_old_runtime_does_not_know_is_told_with_the_one_that_does():
    operations = [use("ADD", version=6)]

    (problem,) = problems(operations, PI_32)

    assert problem.rule is Rule.VERSION
    assert (
        str(problem)
        == "tflite-runtime 2.14.0 knows ADD up to version 5, the model has version 6; ai-edge-litert 2.3 knows it"
    )
    assert problems(operations, PI) == ()


def test_a_version_that_no_runtime_knows_is_the_layers_fault():
    (problem,) = problems([use("ADD", version=99)], PI)

    assert (problem.rule, problem.remedy) == (Rule.VERSION, "replace the layer that needs it")


def test_an_operator_that_the_runtime_does_not_have_is_told():
    (old,) = problems([use("STABLEHLO_COMPOSITE")], PI_32)
    (never,) = problems([use("OPERATOR_777")], PI)

    assert (old.rule, old.reason) == (
        Rule.UNKNOWN_OPERATOR,
        "tflite-runtime 2.14.0 has no operator STABLEHLO_COMPOSITE",
    )
    assert old.remedy == "ai-edge-litert 2.3 knows it"
    assert (never.rule, never.remedy) == (Rule.UNKNOWN_OPERATOR, "replace the layer that needs it")


def test_int16_activations_without_a_kernel_are_told_with_the_types_that_have_one():
    (problem,) = problems([use("HARD_SWISH", inputs=("int16",), outputs=("int16",))], PI)

    assert (problem.rule, problem.type) == (Rule.TYPE, "int16")
    assert problem.reason == "ai-edge-litert 2.3 computes HARD_SWISH on float32, float16, int8, uint8, not on int16"


def test_a_type_that_was_not_measured_is_no_problem():
    assert problems([use("ADD", inputs=("int4", "int4"), outputs=("int4",))], PI) == ()
    assert problems([use("WHERE", inputs=("int16",))], PI) == ()


def test_flex_operations_need_a_profile_that_allows_them():
    flex = [use("FlexErf", kind="flex", inputs=("float32",))]

    (problem,) = problems(flex, PI)

    assert problem.rule is Rule.FLEX
    assert "FlexErf is TensorFlow's own operation Erf, which raspberry-pi-4 does not allow" in problem.reason
    assert problems(flex, allowing_flex(PI)) == ()


def test_custom_operators_run_only_where_the_runtime_brings_them_along():
    (problem,) = problems([use("MyOwn", kind="custom")], PI)

    assert problem.rule is Rule.CUSTOM
    assert problem.reason == "MyOwn is a custom operator, which ai-edge-litert 2.3 does not bring along"
    assert problems([use("TFLite_Detection_PostProcess", kind="custom")], PI_32) == ()


def test_what_was_compiled_for_the_edge_tpu_runs_where_there_is_one():
    compiled = [use("edgetpu-custom-op", kind="custom")]

    (problem,) = problems(compiled, PI)

    assert problem.reason == "it was compiled for an Edge TPU, which the profile does not have"
    assert problems(compiled, CORAL) == ()


def test_the_same_problem_is_told_once():
    twice = [use("MyOwn", kind="custom"), use("ADD"), use("MyOwn", kind="custom")]

    assert [problem.operation for problem in problems(twice, PI)] == ["MyOwn"]


@pytest.mark.parametrize(
    ("operation", "wanted"),
    [
        (use("ADD", inputs=("int8", "int8")), "int8"),
        (use("SPLIT", inputs=("int32", "int16")), "int16"),
        (use("TRANSPOSE_CONV", inputs=("int32", "int8", "uint8")), "uint8"),
        (use("QUANTIZE", inputs=("float32",), outputs=("int8",)), "int8"),
        (use("ADD", inputs=()), ""),
        (use("QUANTIZE", outputs=()), ""),
    ],
)
def test_the_type_that_decides_is_that_of_the_data(operation, wanted):
    assert data_type(operation) == wanted
