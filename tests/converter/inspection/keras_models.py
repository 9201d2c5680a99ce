"""Writes ``.keras`` and HDF5 files as Keras does, without Keras: small nets with a net inside, for reading only."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

SAVED = {"keras_version": "3.15.1", "date_saved": "2026-01-02@03:04:05"}


def layer(class_name: str, name: str, *, inbound: Any = None, built: Any = None, package: str = "", **config: Any):
    """Return a serialized layer as Keras 3 writes it."""
    return {
        "module": "keras.layers",
        "class_name": class_name,
        "config": {"name": name, "trainable": True, **config},
        "registered_name": f"{package}>{class_name}" if package else None,
        "inbound_nodes": inbound or [],
        **({"build_config": {"input_shape": built}} if built else {}),
    }


def fed_by(*names: str) -> list[Any]:
    """Return the inbound nodes of a layer that is fed by others, as Keras 3 writes them."""
    tensors = [
        {"class_name": "__keras_tensor__", "config": {"shape": [None, 4], "keras_history": [name, 0, 0]}}
        for name in names
    ]
    return [{"args": [tensors[0] if len(tensors) == 1 else tensors], "kwargs": {}}]


def net(name: str, layers: list[Any], inputs: list[str], outputs: list[str], **more: Any) -> dict[str, Any]:
    """Return a serialized functional model."""
    config = {
        "name": name,
        "trainable": True,
        "layers": layers,
        "input_layers": [[one, 0, 0] for one in inputs],
        "output_layers": [[one, 0, 0] for one in outputs],
    }
    return {"module": "keras", "class_name": "Functional", "config": config, **more}


def inner_net() -> dict[str, Any]:
    """Return the model within the model: a dense layer without bias and its statistics."""
    return net(
        "body",
        [
            layer("InputLayer", "inner_in", batch_shape=[None, 4], dtype="float32"),
            layer("Dense", "inner_dense", units=3, use_bias=False, inbound=fed_by("inner_in")),
            layer("BatchNormalization", "inner_bn", scale=False, inbound=fed_by("inner_dense")),
        ],
        ["inner_in"],
        ["inner_bn"],
        inbound_nodes=fed_by("level"),
    )


def config() -> dict[str, Any]:
    """Return the architecture that the writers below write."""
    return net(
        "net",
        [
            layer("InputLayer", "words", batch_shape=[None, 6], dtype="int32"),
            layer(
                "InputLayer",
                "level",
                batch_shape=[None, 4],
                dtype={"class_name": "DTypePolicy", "config": {"name": "float16"}},
            ),
            layer("Embedding", "embedding", input_dim=50, output_dim=4, inbound=fed_by("words"), built=[None, 6]),
            inner_net(),
            layer("Concatenate", "both", axis=-1, inbound=fed_by("embedding", "body")),
            layer("Dense", "first", units=5, activation="relu", inbound=fed_by("both"), built=[None, 7]),
            layer("Dense", "second", units=2, inbound=fed_by("first"), trainable_=1, package="mine"),
            layer("Gate", "gate", inbound=fed_by("second"), package="mine"),
        ],
        ["level", "words"],
        ["gate"],
        compile_config={
            "optimizer": {"class_name": "Adam", "config": {"learning_rate": 0.001, "name": "adam"}},
            "loss": {"class_name": "function", "config": "mse"},
            "metrics": ["accuracy"],
            "loss_weights": None,
            "jit_compile": False,
        },
    )


WEIGHTS = {
    "layers/embedding/vars/0": (50, 4),
    "layers/functional/layers/dense/vars/0": (4, 3),
    "layers/functional/layers/batch_normalization/vars/0": (3,),
    "layers/functional/layers/batch_normalization/vars/1": (3,),
    "layers/functional/layers/batch_normalization/vars/2": (3,),
    "layers/dense/vars/0": (7, 5),
    "layers/dense/vars/1": (5,),
    "layers/dense_1/vars/0": (5, 2),
    "layers/dense_1/vars/1": (2,),
    "layers/gate/inner/vars/0": (2,),
    "optimizer/vars/0": (),
}


def write_archive(path: Path, architecture: dict[str, Any] | None = None, *, names: bool = False) -> Path:
    """Write the net as a ``.keras``; with ``names`` as newer versions do, which name a weight's layer beside it."""
    weights = io.BytesIO()
    with h5py.File(weights, "w") as file:
        for where, shape in WEIGHTS.items():
            file[where] = np.zeros(shape, np.float32)
        file["layers/stray/vars/0"] = np.zeros(1, np.float32)
        if names:
            file["layers/dense/vars"].attrs["name"] = "second"
            file["layers/dense_1/vars"].attrs["name"] = "first"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps(SAVED))
        archive.writestr("config.json", json.dumps(config() if architecture is None else architecture))
        archive.writestr("model.weights.h5", weights.getvalue())
    return path


LEGACY_WEIGHTS = {
    "embedding": {"embedding/embeddings:0": (50, 4)},
    "body": {
        "inner_dense/kernel:0": (4, 3),
        "inner_bn/beta:0": (3,),
        "inner_bn/moving_mean:0": (3,),
        "inner_bn/moving_variance:0": (3,),
    },
    "first": {"first/kernel:0": (7, 5), "first/bias:0": (5,)},
    "second": {"second/kernel:0": (5, 2), "second/bias:0": (2,)},
    "gone": {"gone/kernel:0": (1,)},
}


def write_hdf5(path: Path) -> Path:
    """Write the net as Keras 2 wrote HDF5 files."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config())
        file.attrs["training_config"] = json.dumps(
            {"optimizer_config": {"class_name": "SGD", "config": {"lr": 0.1}}, "loss": "mse", "metrics": None}
        )
        file.attrs["keras_version"] = b"2.4.0"
        file.attrs["backend"] = "tensorflow"
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in LEGACY_WEIGHTS]
        for name, weights in LEGACY_WEIGHTS.items():
            group.create_group(name).attrs["weight_names"] = [one.encode() for one in weights]
            for one, shape in weights.items():
                group[name][one] = np.zeros(shape, np.float32)
        optimizer = file.create_group("optimizer_weights")
        optimizer.attrs["weight_names"] = [b"iterations:0"]
        optimizer["iterations:0"] = np.int64(3)
    return path
