"""Sees what the training's TensorFlow half does, in a process of its own: run as ``python facts.py FOLDER``.

It leaves ``facts.json``; the tests say what has to be true of it.
"""

import hashlib
import json
import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

from edgeferry.converter.errors import ConverterError
from edgeferry.converter.formats.keras_model import KerasSource
from edgeferry.converter.training import channels, rewriter
from edgeferry.converter.training.export import integer_tflite
from edgeferry.converter.training.graph import flatten
from edgeferry.converter.training.kinds import Role, channel_axes, role_of
from edgeferry.converter.training.plain import plain
from edgeferry.converter.training.recipe import (
    Clustering,
    Distillation,
    Pattern,
    Pruning,
    Quantization,
    Ranges,
    Recipe,
    Technique,
)
from edgeferry.converter.training.trainer import Training
from edgeferry.inference.model import Model
from edgeferry.inference.quantization import dequantize, is_quantized, quantize

sys.path.insert(0, str(Path(__file__).parent))
from nets import NETS, made

SAMPLES = 64


def main() -> None:
    folder = Path(sys.argv[1])
    tf.config.threading.set_intra_op_parallelism_threads(1)
    facts = {
        "rewritten": {name: rewritten(name, folder / name) for name in NETS},
        "narrowed": {name: cut(name) for name in NETS},
        "refused": dict(refused(folder)),
        "trained": dict(trained(folder)),
    }
    (folder / "facts.json").write_text(json.dumps(facts))


def rewritten(name: str, folder: Path) -> dict[str, Any]:
    """Return how far a net's answers are from its plain form's, and its rounded form's from its ``.tflite``'s."""
    folder.mkdir()
    source = KerasSource(name, keras.Model(list((model := made(name)).inputs), list(model.outputs)))
    graph = plain(flatten(source.model, name))
    random = np.random.default_rng(0)
    inputs = [random.normal(size=(SAMPLES, *spec.shape[1:])).astype(np.float32) for spec in source.inputs]
    before = keras.tree.flatten(source.model(inputs))
    compressed = rewriter.rewrite(graph, is_quantized=True)
    same = keras.tree.flatten(compressed.model(inputs))
    rewriter.calibrate(compressed, [inputs])
    for layer in compressed.layers.values():
        layer.is_quantized = True
    for quant in compressed.quants.values():
        quant.is_active = True
    rounded = [output.numpy() for output in keras.tree.flatten(compressed.model(inputs))]
    last = KerasSource(name, rewriter.finished(compressed, is_rounding=True), source.output_names)
    shapes = {spec.name: (1, *spec.shape[1:]) for spec in source.inputs}
    path = folder / "model.tflite"
    path.write_bytes(integer_tflite(last, shapes, folder / "files", may_mix=False))
    return {
        "kinds": [step.kind for step in graph.steps],
        "names": source.output_names,
        "plain": max(float(np.abs(one - other).max()) for one, other in zip(before, same, strict=True)),
        "apart": apart(path, dict(zip(last.output_names, rounded, strict=True)), source, inputs),
        "integers": integers_found(path, [layer.integers() for layer in compressed.layers.values()]),
    }


def apart(path: Path, wanted: dict[str, np.ndarray], source: KerasSource, inputs: list[np.ndarray]) -> float:
    """Return how far the ``.tflite`` is from the rounded model: mean difference, as a share of the answers' span."""
    model = Model.load(path)
    assert all(is_quantized(spec) for spec in (*model.inputs, *model.outputs))
    named = dict(zip((spec.name for spec in source.inputs), inputs, strict=True))
    runs = [
        model.run({spec.name: quantize(named[spec.name][index : index + 1], spec) for spec in model.inputs})
        for index in range(SAMPLES)
    ]
    found = {spec.name: dequantize(np.concatenate([run[spec.name] for run in runs]), spec) for spec in model.outputs}
    return max(float(np.abs(found[name] - wanted[name]).mean() / np.ptp(wanted[name])) for name in wanted)


def integers_found(path: Path, kernels: list[np.ndarray]) -> list[bool]:
    """Return whether each kernel stands in the ``.tflite`` with the same integers, in whatever order."""
    interpreter = Model.load(path).interpreter
    stored = []
    for detail in interpreter.get_tensor_details():
        if detail["dtype"] is np.int8:
            with suppress(ValueError):  # of a tensor that has no memory yet
                stored.append(np.sort(interpreter.get_tensor(detail["index"]), axis=None))
    return [any(np.array_equal(np.sort(kernel, axis=None), one) for one in stored) for kernel in kernels]


def cut(name: str) -> dict[str, Any]:
    """Return what is left of a net without some channels, and how far it is from one in which they are all 0."""
    model = keras.Model(list((net := made(name)).inputs), list(net.outputs))
    graph = plain(flatten(model, name))
    found = channels.find_channels(graph)
    saving = {"residual": 0.2}.get(name, 0.5)  # most of its channels are tied to others
    kept = channels.kept_for_saving(graph, found, saving)
    narrow = channels.narrowed(graph, found, kept)
    work = [channels.multiply_accumulates(one) for one in (graph, narrow)]
    for step in graph.steps:
        group = found.group_of(step.outputs[0])
        if role_of(step.kind) is Role.WEIGHTED and group in kept:
            gone = np.setdiff1d(np.arange(found.sizes[group]), kept[group])
            kernel, bias = step.operation.get_weights()
            np.moveaxis(kernel, channel_axes(step.kind, kernel.ndim)[0], 0)[gone] = 0
            bias[gone] = 0
            step.operation.set_weights([kernel, bias])
    random = np.random.default_rng(0)
    inputs = [random.normal(size=(8, *tensor.shape[1:])).astype(np.float32) for tensor in model.inputs]
    full, less = (
        keras.tree.flatten(rewriter.rewrite(one, is_quantized=False).model(inputs)) for one in (graph, narrow)
    )
    return {
        "apart": max(float(np.abs(one - other).max()) for one, other in zip(full, less, strict=True)),
        "work": work,
        "saving": saving,
        "groups": [[int(found.sizes[group]), len(kept[group])] for group in kept],
    }


def refused(folder: Path) -> Any:
    """Yield what is said of models and samples that cannot be trained."""
    inputs = keras.Input((8,))
    hidden = keras.layers.LayerNormalization(name="norm")(inputs)
    keras.Model(inputs, keras.layers.Dense(2, activation="gelu", name="odd")(hidden)).save(folder / "norm.keras")
    subclassed().save(folder / "subclassed.keras")
    quarters(folder)
    two = dict(np.load(folder / "train.npz"))
    np.savez(folder / "labels.npz", x=two["x"], y=two["y"] + 3)
    np.savez(folder / "large.npz", x=two["x"] * 1e30, y=two["y"])
    np.savez(folder / "flat.npz", x=np.zeros((9, 8), np.float32), y=np.zeros(9, np.int64))
    no_layer = Distillation(features=("first=third",))
    no_teacher = Distillation(teacher=str(folder / "norm.keras"))
    for name, model, data, *wanted in (
        ("unknown layer", "norm", "flat"),
        ("subclassed", "subclassed", "flat"),
        ("labels", "quarters", "labels"),
        ("shape", "quarters", "flat"),
        ("nan", "quarters", "large"),
        ("layer", "quarters", "train", no_layer),
        ("teacher", "quarters", "train", no_teacher),
        ("saving", "quarters", "train", Pruning(0.99, Pattern.CHANNELS)),
    ):
        try:
            changes = {}
            technique = Technique.QAT
            if wanted:
                technique = Technique.PRUNING if name == "saving" else Technique.DISTILLATION
                changes = {str(technique): wanted[0]}
            train(folder / f"{model}.keras", folder / f"{data}.npz", folder / f"no {name}", technique, **changes)
        except ConverterError as err:
            yield name, err.line


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)


def subclassed() -> keras.Model:
    model = Subclassed()
    model(np.zeros((1, 8), np.float32))
    return model


def quarters(folder: Path) -> None:
    """Make a net that finds the brightest quarter of a picture, and samples of it."""
    random = np.random.default_rng(3)
    y = random.integers(0, 4, 600)
    x = random.random((600, 8, 8, 1), np.float32)
    x += 0.4 * np.eye(4)[y].reshape(-1, 2, 2, 1).repeat(4, 1).repeat(4, 2).astype(np.float32)
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            keras.layers.Conv2D(8, 3, padding="same", use_bias=False, name="first"),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu", name="second"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, activation="softmax", name="quarter"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x[:500], y[:500], epochs=6, batch_size=25, verbose=0)
    model.save(folder / "quarters.keras")
    np.savez(folder / "train.npz", x=x[:500], y=y[:500])
    np.savez(folder / "test.npz", x=x[500:], y=y[500:])


def trained(folder: Path) -> Any:
    """Yield what trainings of that net come to."""
    model, data = folder / "quarters.keras", folder / "train.npz"
    every = (Technique.PRUNING, Technique.CLUSTERING, Technique.QAT)
    small = {"clustering": Clustering(8)}
    small = {"clustering": Clustering(8)}
    yield "all", train(model, data, folder / "all", *every, **small)
    yield "again", train(model, data, folder / "again", *every, **small)
    floats = {"pruning": Pruning(0.5, Pattern.TWO_OF_FOUR), "clustering": Clustering(8), "batch_size": 450}
    yield "float", train(model, data, folder / "float", *every[:2], **floats)
    with np.load(data) as samples:
        np.savez(folder / "unlabelled.npz", x=samples["x"])
    delayed = Quantization(ranges=Ranges.MOVING_AVERAGE, delay=0.5)
    yield "delayed", train(model, folder / "unlabelled.npz", folder / "delayed", Technique.QAT, qat=delayed)
    halved = {"pruning": Pruning(0.5, Pattern.CHANNELS), "epochs": 2}
    yield "channels", train(model, data, folder / "channels", Technique.PRUNING, **halved)
    wanted = Distillation(width=0.5, features=("first=first", "second=second"))
    yield "student", train(model, data, folder / "student", Technique.DISTILLATION, distillation=wanted, epochs=3)
    (folder / "stopped").mkdir()
    (folder / "stopped" / "stop").touch()
    yield "stopped", train(model, data, folder / "stopped", *every, epochs=3)


def train(model: Path, data: Path, folder: Path, *techniques: Technique, **changes: Any) -> dict[str, Any]:
    """Return what one training came to."""
    folder.mkdir(exist_ok=True)
    board = folder / "board" if folder.name == "delayed" else None
    recipe = replace(Recipe(techniques=techniques, epochs=1, batch_size=50), **changes)
    test = model.parent / "test.npz"
    report = Training(
        model, data, test if model.stem == "quarters" else data, recipe, keeps_float=False, folder=folder, board=board
    ).run()
    with np.load(test) as samples:
        x, y = samples["x"], samples["y"]
    last = keras.saving.load_model(folder / "model.keras")
    types = {
        str(np.dtype(one["dtype"])) for one in Model.load(folder / "model.tflite").interpreter.get_tensor_details()
    }
    return {
        "complete": report.is_complete,
        "epochs": [(epoch.phase, epoch.number) for epoch in report.epochs],
        "layers": [(layer.name, layer.sparsity, layer.values) for layer in report.layers],
        "accuracy": float(np.mean(last.predict(x, verbose=0).argmax(axis=1) == y)),
        "weights": hashlib.sha256(b"".join(weight.tobytes() for weight in last.get_weights())).hexdigest(),
        "types": sorted(types),
        "board": board is not None and any(b"samples held back" in path.read_bytes() for path in board.iterdir()),
        "work": report.multiply_accumulates,
    }


if __name__ == "__main__":
    main()
