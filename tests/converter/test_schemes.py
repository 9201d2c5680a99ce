"""What each scheme means."""

import pytest

from edgeferry.converter.repair.plan import Repair
from edgeferry.converter.schemes import SUPPORTED, Io, Variant, needs_calibration, recipe, selftest_spec, variants
from edgeferry.device_profiles import Scheme, WeightGranularity

PER_TENSOR = WeightGranularity.PER_TENSOR


def weights_of(variant: Variant) -> dict[str, object]:
    return recipe(variant)[0]["op_config"]["weight_tensor_config"]


def test_float32_needs_no_recipe():
    assert recipe(Variant(Scheme.FLOAT32)) == []


def test_float16_stores_weights_in_sixteen_bits():
    assert weights_of(Variant(Scheme.FLOAT16)) | {"granularity": ""} == {
        "num_bits": 16,
        "symmetric": True,
        "granularity": "",
        "dtype": "FLOAT",
    }


@pytest.mark.parametrize("scheme", [Scheme.DYNAMIC_INT8, Scheme.INT8, Scheme.INT16X8])
def test_a_profile_decides_the_granularity_of_int8_weights(scheme):
    assert weights_of(Variant(scheme))["granularity"] == "CHANNELWISE"
    assert weights_of(Variant(scheme, PER_TENSOR))["granularity"] == "TENSORWISE"


def test_only_integer_schemes_quantize_activations_beforehand():
    activations = {s: "activation_tensor_config" in str(recipe(Variant(s))) for s in SUPPORTED}

    assert [s for s in SUPPORTED if activations[s]] == [Scheme.INT8, Scheme.INT16X8]
    assert [s for s in SUPPORTED if needs_calibration(s)] == [Scheme.INT8, Scheme.INT16X8]


def test_int16x8_has_symmetric_activations_as_its_kernels_want():
    activations = recipe(Variant(Scheme.INT16X8))[0]["op_config"]["activation_tensor_config"]

    assert (activations["num_bits"], activations["symmetric"]) == (16, True)


def test_a_scheme_that_cannot_be_made_has_no_recipe():
    with pytest.raises(ValueError, match="mixed cannot be made"):
        recipe(Variant(Scheme.MIXED))


def test_variants_keep_the_profiles_order_and_pass_over_what_cannot_be_made():
    found = variants([Scheme.MIXED, Scheme.INT8, Scheme.FLOAT16], PER_TENSOR)

    assert list(found.values()) == [Variant(Scheme.INT8, PER_TENSOR), Variant(Scheme.FLOAT16)]


def test_floats_are_one_variant_for_all_profiles():
    assert variants([Scheme.FLOAT32], PER_TENSOR) == variants([Scheme.FLOAT32], WeightGranularity.PER_CHANNEL)


def test_a_repair_is_part_of_a_variant():
    repaired = Variant(Scheme.INT8, repair=Repair(is_equalized=True))

    assert str(repaired) == "int8 with cross-layer equalization"
    assert repaired.stored_as is Scheme.INT8
    assert repaired.file_name == Variant(Scheme.INT8).file_name


def test_with_layers_in_float_it_is_mixed():
    assert Variant(Scheme.INT8, repair=Repair(float_layers=("a;",))).stored_as is Scheme.MIXED


def test_a_variant_says_its_granularity_where_it_matters():
    assert str(Variant(Scheme.INT8)) == "int8"
    assert str(Variant(Scheme.INT8, PER_TENSOR)) == "int8 per_tensor"
    assert Variant(Scheme.INT8).file_name != Variant(Scheme.INT8, PER_TENSOR).file_name


def test_a_self_test_is_stricter_for_floats_than_for_dynamic_int8():
    exact = selftest_spec(Scheme.FLOAT32, samples=8, peak=10.0)
    loose = selftest_spec(Scheme.DYNAMIC_INT8, samples=8, peak=10.0)

    assert exact.samples == 8
    assert exact.atol == pytest.approx(1e-4)
    assert loose.atol == pytest.approx(0.2)
    assert selftest_spec(Scheme.INT8, samples=1, peak=1.0).steps == 4
    assert selftest_spec(Scheme.FLOAT32, samples=1, peak=0.0).atol > 0


@pytest.mark.parametrize(
    ("io", "scheme", "found"),
    [
        (Io.UINT8, Scheme.INT8, Io.UINT8),
        (Io.FLOAT32, Scheme.INT8, Io.FLOAT32),
        (Io.FLOAT32, Scheme.INT16X8, Io.FLOAT32),
        (Io.UINT8, Scheme.INT16X8, Io.OWN),
        (Io.UINT8, Scheme.DYNAMIC_INT8, Io.OWN),
    ],
)
def test_only_integer_schemes_have_a_choice_of_inputs_and_outputs(io, scheme, found):
    assert variants([scheme], WeightGranularity.PER_CHANNEL, io)[scheme].io is found


def test_a_recipe_says_what_inputs_and_outputs_are():
    uint8 = recipe(Variant(Scheme.INT8, io=Io.UINT8))[1:]
    real = recipe(Variant(Scheme.INT8, io=Io.FLOAT32))[1:]

    assert [entry["operation"] for entry in uint8] == ["INPUT", "OUTPUT"]
    assert {entry["op_config"]["activation_tensor_config"]["dtype"] for entry in uint8} == {"UINT"}
    assert {entry["algorithm_key"] for entry in real} == {"no_quantize"}
    assert str(Variant(Scheme.INT8, io=Io.UINT8)) == "int8 with uint8 inputs and outputs"
