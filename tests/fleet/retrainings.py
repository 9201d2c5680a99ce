"""Retrains a real MobileNetV2 the ways that a new version comes about; run as ``python retrainings.py H5 SAMPLES OUT``.

SAMPLES is an .npz with pictures ``x``, (160, 160, 3) in -1 to 1, and their classes ``y``. Leaves in OUT:

- ``before.keras``: the package's backbone with a head for these classes
- ``head.keras``: the same, its head trained on, on half of the pictures
- ``light.keras``: the same, every layer trained on for three epochs at a small rate, as Keras's guide to fine-tuning
  says: batch normalizations as they were (keras.io/guides/transfer_learning)
"""

import sys
from pathlib import Path

import keras
import numpy as np


def classifier(backbone: keras.Model, classes: int) -> keras.Model:
    """Return ``backbone`` with a head for ``classes``."""
    inputs = keras.Input((160, 160, 3), name="x")
    features = keras.layers.GlobalAveragePooling2D()(backbone(inputs, training=False))
    return keras.Model(inputs, keras.layers.Dense(classes, activation="softmax", name="classes")(features))


def train_head(model: keras.Model, x: np.ndarray, y: np.ndarray, *, epochs: int) -> None:
    """Train the last layer alone."""
    features = keras.Model(model.input, model.layers[-2].output).predict(x, verbose=0)
    head = keras.Sequential([keras.Input(features.shape[1:]), model.layers[-1]])
    head.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy")
    head.fit(features, y, epochs=epochs, verbose=0)


def train_lightly(model: keras.Model, x: np.ndarray, y: np.ndarray) -> None:
    """Train every layer a little."""
    for layer in model.layers[1].layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    model.compile(keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=3, verbose=0)


def main(h5: Path, samples: Path, output: Path) -> None:
    keras.utils.set_random_seed(0)
    with np.load(samples) as pictures:
        x, y = pictures["x"], pictures["y"]
    backbone = next(layer for layer in keras.models.load_model(h5, compile=False).layers if "mobilenet" in layer.name)
    model = classifier(backbone, int(y.max()) + 1)
    train_head(model, x, y, epochs=20)
    model.save(output / "before.keras")
    train_head(model, x[::2], y[::2], epochs=20)
    model.save(output / "head.keras")
    model = keras.models.load_model(output / "before.keras")
    train_lightly(model, x, y)
    model.save(output / "light.keras")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
