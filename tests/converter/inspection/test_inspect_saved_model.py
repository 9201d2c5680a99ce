"""What SavedModels tell, read from their protocol buffers: TensorFlow wrote them, and is not needed to read them."""

import json
import shutil
import subprocess
import sys

import pytest

from edgeferry.converter.formats import protobufs
from edgeferry.converter.inspection.keras_file import read_archive, read_hdf5
from edgeferry.converter.inspection.saved_model_facts import AssetFacts, PortFacts
from edgeferry.converter.inspection.saved_model_folder import read_saved_model

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("tensorflow"), pytest.mark.timeout(300)]


def copy_of(sources, name: str, folder):
    return shutil.copytree(sources.folder / name, folder / name)


def test_signatures_are_told_with_names_types_and_shapes(sources):
    facts = read_saved_model(sources.folder / "cnn_saved")

    (graph,) = facts.meta_graphs
    assert facts.is_tensorflow_2
    assert graph.tags == ("serve",)
    assert graph.tensorflow_version.startswith("2.")
    assert [one.key for one in graph.signatures] == ["serving_default", "serve"]
    assert graph.initializer == "NoOp"
    serving = graph.signatures[0]
    assert serving.method == "tensorflow/serving/predict"
    assert serving.inputs == (PortFacts("image", "serving_default_image:0", "float32", (-1, 8, 8, 1)),)
    assert [(port.name, port.type, port.shape) for port in serving.outputs] == [("output_0", "float32", (-1, 4))]


def test_operations_are_those_that_a_signature_needs(sources):
    (graph,) = read_saved_model(sources.folder / "cnn_saved").meta_graphs

    needed = graph.signatures[0].operations

    assert (needed["Conv2D"], needed["MatMul"], needed["Softmax"]) == (1, 1, 1)
    assert "RestoreV2" not in needed
    assert graph.operations["RestoreV2"] == 1
    assert not {"PartitionedCall", "StatefulPartitionedCall"} & graph.operations.keys()
    assert any(scope.endswith(": Conv2D") for scope in graph.scopes["serving_default"])


def test_variables_are_told_with_shapes_and_bytes(sources):
    facts = read_saved_model(sources.folder / "cnn_saved")

    variables = {one.name: one for one in facts.meta_graphs[0].variables}

    kernel = variables["sequential/conv2d/kernel"]
    assert (kernel.type, kernel.shape, kernel.size_bytes, kernel.is_trainable) == ("float32", (3, 3, 1, 8), 288, True)
    assert not variables["sequential/batch_normalization/moving_mean"].is_trainable
    assert facts.variables_bytes > 0
    assert facts.problems == ()


def test_functions_are_told_with_what_they_were_traced_for(sources):
    (graph,) = read_saved_model(sources.folder / "cnn_saved").meta_graphs

    assert {one.name: one.calls for one in graph.functions}["serve"] == (
        "(image: float32[?, 8, 8, 1]) -> float32[?, 4]",
    )


def test_a_graph_of_tensorflow_1_tells_its_variables_from_their_index(sources, run_inspect):
    facts = read_saved_model(sources.folder / "graph_v1")
    shown = run_inspect(sources.folder / "graph_v1").stdout

    (graph,) = facts.meta_graphs
    assert not facts.is_tensorflow_2
    assert [(one.name, one.shape, one.size_bytes) for one in graph.variables] == [("layer/weights", (3, 2), 24)]
    assert graph.signatures[0].operations["MatMul"] == 1
    assert "TensorFlow 1 (a graph), 1 graph" in shown


def test_assets_are_told_and_missed(sources, tmp_path):
    folder = copy_of(sources, "vocabulary", tmp_path)

    whole = read_saved_model(folder)
    (folder / "assets" / "words.txt").unlink()
    without = read_saved_model(folder)

    assert whole.meta_graphs[0].assets == (AssetFacts("assets/words.txt", 12),)
    assert whole.meta_graphs[0].signatures[0].inputs[0].type == "string"
    assert without.meta_graphs[0].assets == (AssetFacts("assets/words.txt", None),)
    assert without.problems == ("assets/words.txt is missing",)


def test_a_shape_that_is_not_known_at_all_is_told_so(sources, run_inspect):
    facts = read_saved_model(sources.folder / "shapeless")

    assert facts.meta_graphs[0].signatures[0].inputs[0].shape is None
    assert "unknown rank" in run_inspect(sources.folder / "shapeless").stdout


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (
            lambda variables: (variables / "variables.data-00000-of-00001").write_bytes(b"x"),
            "variables/variables.data-00000-of-00001 is cut off: it has 1 of ",
        ),
        (
            lambda variables: (variables / "variables.data-00000-of-00001").unlink(),
            "variables/variables.data-00000-of-00001 is missing",
        ),
        (
            lambda variables: (variables / "variables.index").write_bytes(b"junk"),
            "variables/variables.index is damaged: its end is missing",
        ),
    ],
)
def test_variables_that_are_cut_off_are_told(sources, tmp_path, damage, problem):
    folder = copy_of(sources, "cnn_saved", tmp_path)
    damage(folder / "variables")

    assert read_saved_model(folder).problems[0].startswith(problem)


def test_one_signature_can_be_asked_for(sources, run_inspect):
    folder = sources.folder / "two_signatures"

    shown = run_inspect(folder, "--signature", "b")
    tree = run_inspect(folder, "--signature", "b", "--tree")
    wrong = run_inspect(folder, "--signature", "c")

    assert "\n  b " in shown.stdout
    assert "\n  a " not in shown.stdout
    assert tree.stdout.splitlines()[1].startswith("`-- b  (")
    assert wrong.exit_code == 2
    assert wrong.stderr.endswith("has no signature 'c'; its signatures are: a, b [REQUEST_WRONG]\n")


def test_what_keras_2_noted_is_told(sources, tmp_path, run_inspect):
    folder = copy_of(sources, "cnn_saved", tmp_path)
    metadata = {
        "class_name": "Sequential",
        "name": "noted",
        "keras_version": "2.4.0",
        "model_config": {
            "class_name": "Sequential",
            "config": {"name": "noted", "layers": [{"class_name": "Dense", "config": {"name": "dense", "units": 4}}]},
        },
        "training_config": {"loss": "mse", "optimizer_config": {"class_name": "SGD", "config": {}}},
    }
    notes = protobufs.saved_metadata().SavedMetadata()
    notes.nodes.add(node_id=0, node_path="root", identifier="_tf_keras_sequential", metadata=json.dumps(metadata))
    (folder / "keras_metadata.pb").write_bytes(notes.SerializeToString())

    keras = read_saved_model(folder).meta_graphs[0].keras
    shown = run_inspect(folder).stdout

    assert (keras.class_name, keras.name, keras.keras_version) == ("Sequential", "noted", "2.4.0")
    assert [layer.name for layer in keras.layers] == ["dense"]
    assert (keras.training.optimizer, keras.training.loss) == ("SGD", "mse")
    assert "Sequential 'noted', 1 layer" in shown


@pytest.mark.parametrize("notes", [b"\xff\xff", b""])
def test_notes_that_cannot_be_read_are_no_harm(sources, tmp_path, notes):
    folder = copy_of(sources, "cnn_saved", tmp_path)
    (folder / "keras_metadata.pb").write_bytes(notes)

    assert read_saved_model(folder).meta_graphs[0].keras is None


def test_reading_does_not_start_tensorflow(sources):
    script = (
        "import sys; from pathlib import Path; "
        "from edgeferry.converter.inspection.saved_model_folder import read_saved_model; "
        "read_saved_model(Path(sys.argv[1])); "
        "sys.exit(hasattr(sys.modules['tensorflow'], '__version__'))"
    )

    subprocess.run([sys.executable, "-c", script, str(sources.folder / "cnn_saved")], check=True, timeout=60)


def test_a_check_finds_every_operation_that_has_no_kernel(sources, run_inspect):
    result = run_inspect(sources.folder / "svd" / "saved_model", "--check", "raspberry-pi-4")

    assert result.exit_code == 1
    assert "Svd" in result.stdout
    assert "decompose" in result.stdout
    assert "cannot run" in result.stdout.splitlines()[-1]


@pytest.mark.acceptance
def test_a_keras_model_is_checked_as_what_it_becomes(sources, run_inspect):
    result = run_inspect(sources.folder / "cnn.keras", "--check", "raspberry-pi-32bit")

    assert result.exit_code == 0, result.output
    assert "raspberry-pi-32bit can run " in result.stdout


def test_files_that_keras_3_wrote_are_read_as_keras_meant_them(sources):
    for facts in (read_archive(sources.folder / "cnn.keras"), read_hdf5(sources.folder / "cnn.h5")):
        named = {layer.name: {weight.name: weight.shape for weight in layer.weights} for layer in facts.layers}
        assert named["conv2d"] == {"kernel": (3, 3, 1, 8), "bias": (8,)}
        assert list(named["batch_normalization"]) == ["gamma", "beta", "moving_mean", "moving_variance"]
        assert (facts.parameters, facts.trainable_parameters) == (244, 228)
        assert facts.training.loss == "sparse_categorical_crossentropy"
        assert facts.unplaced == ()
