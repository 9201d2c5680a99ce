"""Trains a small net for each kind of real data; run as ``python real_trainings.py FOLDER [NAME ...]``.

``FOLDER`` has ``NAME.train.npz``; without names all are trained.

Leaves ``NAME.keras``. One thread and fixed seeds: the same machine makes the same models.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

KERNEL = {3: 3, 2: 5}  # by the rank of a sample: pictures, series


def network(shape: tuple[int, ...], classes: int) -> keras.Model:
    """Return a plain convolutional classifier for pictures or for series."""
    layers = keras.layers
    convolution, pooling = (
        (layers.Conv2D, layers.MaxPooling2D) if len(shape) == 3 else (layers.Conv1D, layers.MaxPooling1D)
    )
    kernel = KERNEL[len(shape)]
    return keras.Sequential(
        [
            keras.Input(shape, name="x"),
            convolution(32, kernel, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            pooling(),
            convolution(64, kernel, activation="relu"),
            pooling(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(classes, activation="softmax", name="classes"),
        ]
    )


def train(data: Path, epochs: int) -> None:
    """Train on the samples in ``data`` and save the model beside them."""
    keras.utils.set_random_seed(0)
    with np.load(data) as samples:
        x, y = samples["x"], samples["y"]
    model = network(x.shape[1:], int(y.max()) + 1)
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    model.save(data.parent / f"{data.stem.removesuffix('.train')}.keras")


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(1)
    for name, epochs in (("digits", 8), ("faces", 120), ("exercises", 8)):
        if name in (sys.argv[2:] or [name]):
            train(Path(sys.argv[1]) / f"{name}.train.npz", epochs)
