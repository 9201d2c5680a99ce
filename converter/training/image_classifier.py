"""Trains a small convolutional classifier on images in a ``.npz``: for the demo, the examples and the tests.

Run as ``python -m edgeferry.converter.training.image_classifier TRAIN.npz OUT.keras [OUT2.keras ...] --epochs N``;
after each N epochs the model so far is saved under the next name, so that several versions share one training.
"""

import argparse
import logging
import os
from pathlib import Path

__all__ = ["train"]

logger = logging.getLogger(__name__)


def train(data: Path, outputs: list[Path], *, epochs: int, seed: int = 0) -> None:
    """Train on ``data`` and save a model after each ``epochs`` epochs.

    Args:
        data: ``x``, float32 images [n, height, width, channels], and ``y``, integer labels [n].
        outputs: ``.keras`` files, in order.
        epochs: Between two of them.
        seed: Of weights and order; on one CPU thread the result repeats.
    """
    import keras  # noqa: PLC0415 - the parser answers without waiting for TensorFlow
    import numpy as np  # noqa: PLC0415

    keras.utils.set_random_seed(seed)
    with np.load(data, allow_pickle=False) as samples:
        x, y = samples["x"], samples["y"]
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:], name="image"),
            keras.layers.Conv2D(16, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(int(y.max()) + 1, activation="softmax", name="digit"),
        ]
    )
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    for output in outputs:
        history = model.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
        model.save(output)
        logger.info("%s: accuracy %.4f on what it was trained on", output, history.history["accuracy"][-1])


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description="Train a small image classifier.")
    parser.add_argument("data", type=Path)
    parser.add_argument("outputs", type=Path, nargs="+")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train(options.data, options.outputs, epochs=options.epochs, seed=options.seed)


if __name__ == "__main__":
    main()
