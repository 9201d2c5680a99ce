"""What ``.keras`` and HDF5 files tell."""

import json
import zipfile

import h5py
import pytest

from edgeferry.converter.inspection.keras_config import input_facts, layer_facts, output_names, training_facts
from edgeferry.converter.inspection.keras_facts import KerasInput
from edgeferry.converter.inspection.keras_file import read_archive, read_hdf5
from tests.converter.inspection.keras_models import config, layer, net, write_archive, write_hdf5


def weights_of(layers) -> dict[str, dict[str, tuple[int, ...]]]:
    found = {}
    for one in layers:
        found[one.name] = {weight.name: weight.shape for weight in one.weights}
        found |= weights_of(one.layers)
    return {name: weights for name, weights in found.items() if weights}


NAMED = {
    "embedding": {"embeddings": (50, 4)},
    "inner_dense": {"kernel": (4, 3)},
    "inner_bn": {"beta": (3,), "moving_mean": (3,), "moving_variance": (3,)},
    "first": {"kernel": (7, 5), "bias": (5,)},
    "second": {"kernel": (5, 2), "bias": (2,)},
}


def test_a_keras_file_tells_layers_and_their_weights_by_name(tmp_path):
    facts = read_archive(write_archive(tmp_path / "m.keras"))

    assert (facts.class_name, facts.name, facts.keras_version) == ("Functional", "net", "3.15.1")
    assert facts.saved_at == "2026-01-02@03:04:05"
    assert weights_of(facts.layers) == {**NAMED, "gate": {"inner/0": (2,)}}
    assert [weight.name for weight in facts.unplaced] == ["layers/stray/vars/0"]
    assert facts.parameters == 200 + 12 + 9 + 40 + 12 + 2 + 1
    assert facts.parameter_bytes == 4 * facts.parameters
    assert facts.trainable_parameters == facts.parameters - 6
    assert facts.optimizer_bytes == 4


def test_a_weight_belongs_to_the_layer_that_the_file_names_beside_it(tmp_path):
    facts = read_archive(write_archive(tmp_path / "m.keras", names=True))

    assert weights_of(facts.layers)["second"] == {"kernel": (7, 5), "bias": (5,)}
    assert weights_of(facts.layers)["first"] == {"kernel": (5, 2), "bias": (2,)}


def test_an_hdf5_file_of_keras_2_tells_the_same(tmp_path):
    facts = read_hdf5(write_hdf5(tmp_path / "m.h5"))

    assert (facts.keras_version, facts.backend) == ("2.4.0", "tensorflow")
    assert weights_of(facts.layers) == NAMED
    assert [weight.name for weight in facts.unplaced] == ["model_weights/gone/gone/kernel:0"]
    assert facts.training.optimizer == "SGD"
    assert facts.optimizer_bytes == 8


def test_inputs_come_in_the_order_of_the_model_with_their_types(tmp_path):
    facts = read_archive(write_archive(tmp_path / "m.keras"))

    assert facts.inputs == (KerasInput("level", "float16", (-1, 4)), KerasInput("words", "int32", (-1, 6)))
    assert facts.outputs == ("gate",)
    layers = {one.name: one for one in facts.layers}
    assert layers["both"].inbound == ("embedding", "body")
    assert layers["both"].input_shape == layers["gate"].input_shape == (-1, 4)


def test_keras_2_tells_what_a_layer_is_fed_by_in_lists():
    nodes = [[["left", 0, 0, {}], ["right", 0, 0, {}]]]
    model = {"class_name": "Model", "config": {"layers": [layer("Add", "add", inbound=nodes)]}}

    (add,) = layer_facts(model)

    assert (add.inbound, add.input_shape) == (("left", "right"), ())


def test_training_is_told_as_it_was_compiled(tmp_path):
    training = read_archive(write_archive(tmp_path / "m.keras")).training

    assert (training.optimizer, training.loss, training.metrics) == ("Adam", "mse", ["accuracy"])
    assert training.optimizer_config["learning_rate"] == 0.001
    assert training.other == {"jit_compile": False}


@pytest.mark.parametrize("compiled", [None, {}, [1], "x"])
def test_a_model_that_was_not_compiled_tells_no_training(compiled):
    assert training_facts(compiled) is None


def test_an_optimizer_may_be_named_alone():
    training = training_facts({"optimizer": "rmsprop", "loss": {"out": "mse"}})

    assert (training.optimizer, training.optimizer_config, training.loss) == ("rmsprop", {}, {"out": "mse"})


def test_frozen_layers_are_not_trainable(tmp_path):
    architecture = config()
    architecture["config"]["layers"][5]["config"]["trainable"] = False

    facts = read_archive(write_archive(tmp_path / "m.keras", architecture))

    assert facts.parameters - facts.trainable_parameters == 6 + 40


def test_an_old_sequential_model_tells_the_shape_of_its_first_layer():
    model = {
        "class_name": "Sequential",
        "config": [{"class_name": "Dense", "config": {"name": "dense", "batch_input_shape": [None, 8], "units": 2}}],
    }

    assert input_facts(model) == (KerasInput("dense", "float32", (-1, 8)),)
    assert output_names(model) == ("dense",)
    assert layer_facts(model)[0].input_shape == (-1, 8)


def test_a_class_of_the_users_own_may_tell_nothing():
    model = {"class_name": "Mine", "config": {"size": 3}}

    assert (input_facts(model), output_names(model), layer_facts(model)) == ((), (), ())


def test_wrapped_layers_and_cells_stand_below_their_wrapper():
    cell = layer("LSTMCell", "cell", units=3)
    wrapper = layer("TimeDistributed", "steps", layer=layer("Dense", "dense", units=2))
    model = net("m", [wrapper, layer("RNN", "rnn", cells=[cell, cell], units=1)], [], [])

    assert [[inner.name for inner in one.layers] for one in layer_facts(model)] == [["dense"], ["cell", "cell"]]


def test_code_in_the_file_is_told_and_not_run(tmp_path, run_inspect):
    architecture = config()
    architecture["config"]["layers"] += [
        layer("Lambda", "by_class", function=["code"]),
        layer("Dense", "by_argument", activation={"class_name": "__lambda__", "config": {"code": "4w=="}}),
        layer("Dense", "by_list", units=[{"class_name": "__lambda__"}]),
    ]
    path = write_archive(tmp_path / "m.keras", architecture)

    shown = run_inspect(path).stdout

    assert read_archive(path).unsafe == ("by_class", "by_argument", "by_list")
    assert "! has Python code of its own in by_class, by_argument, by_list, which edgeferry does not run" in shown
    assert "! needs classes that are not Keras's own: Dense, Gate; export a SavedModel" in shown


def test_the_page_shows_layers_with_what_tells_them_apart(tmp_path, run_inspect):
    lines = run_inspect(write_archive(tmp_path / "m.keras")).stdout.splitlines()

    assert lines[1].split() == ["model:", "Functional", "'net',", "11", "layers"]
    assert "Adam, learning rate 0.001" in "\n".join(lines)
    row = next(line for line in lines if line.startswith("  first "))
    assert row.split() == ["first", "Dense", "[?,", "7]", "40", "units", "5,", "activation", "relu"]
    assert any(line.startswith("    inner_dense ") for line in lines)


def test_the_tree_shows_weights_below_their_layers(tmp_path, run_inspect):
    lines = run_inspect(write_archive(tmp_path / "m.keras"), "--tree").stdout.splitlines()

    at = next(number for number, line in enumerate(lines) if "inner_bn: BatchNormalization" in line)
    assert [line.strip("|` -") for line in lines[at + 1 : at + 4]] == [
        "beta  (float32[3], 12 B)",
        "moving_mean  (float32[3], 12 B, not trainable)",
        "moving_variance  (float32[3], 12 B, not trainable)",
    ]


def test_a_subclassed_model_is_told_to_be_exported(tmp_path, run_inspect):
    path = write_archive(tmp_path / "m.keras", {"class_name": "Mine", "config": {}})

    result = run_inspect(path)
    signature = run_inspect(path, "--signature", "x")

    assert "! is of the class Mine, whose layers are not in the file; export a SavedModel" in result.stdout
    assert "layers/dense_1/vars/0" in result.stdout
    assert "training:         the file does not say" in result.stdout
    assert signature.exit_code == 2
    assert "its signatures are: none" in signature.stderr


def test_links_to_other_files_are_not_followed(tmp_path):
    path = write_hdf5(tmp_path / "m.h5")
    other = tmp_path / "opened_it_would_be_an_error.h5"
    other.write_bytes(b"junk")
    with h5py.File(path, "a") as file:
        del file["model_weights"]
        file["model_weights"] = h5py.ExternalLink(str(other), "/model_weights")
        file["here"] = h5py.SoftLink("/optimizer_weights")
        del file["optimizer_weights"]
        file["optimizer_weights"] = 3

    assert read_hdf5(path).parameters == 0


def test_a_file_without_weights_says_so(tmp_path, run_inspect):
    path = write_archive(tmp_path / "m.keras")
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)

    assert "parameters:  none in the file" in run_inspect(path).stdout


def test_an_hdf5_file_without_order_is_read_as_it_lies(tmp_path):
    path = write_hdf5(tmp_path / "m.h5")
    with h5py.File(path, "a") as file:
        del file["model_weights"].attrs["layer_names"]
        del file["optimizer_weights"]

    assert weights_of(read_hdf5(path).layers) == NAMED


def test_json_tells_the_configuration_of_layers_and_optimizer(tmp_path, run_inspect):
    details = json.loads(run_inspect(write_archive(tmp_path / "m.keras"), "--json").stdout)["details"]

    assert details["type"] == "keras"
    assert details["layers"][5]["config"]["units"] == 5
    assert details["training"]["optimizer_config"] == {"learning_rate": 0.001, "name": "adam"}
