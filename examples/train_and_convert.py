"""Train a small Keras model on real handwritten digits, and convert it for two kinds of devices.

    python examples/train_and_convert.py [FOLDER]

Leaves in FOLDER, by default `build/digits`, what the other examples take: the model `digits.keras`, its samples
`train.npz` and `test.npz`, the held-out images alone as `digits.npy`, and the artifacts below `artifacts/digits`.
Needs edgeferry[host].
"""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import keras
import numpy as np

PROFILES = ("generic-x86-64", "raspberry-pi-4")
HELD_OUT = 400


def write_samples(folder: Path) -> tuple[Path, Path]:
    """Write images (float32, 0 to 1) and labels for training and for judging; return both files."""
    with (files("edgeferry.fleet.demo") / "digits.npz").open("rb") as file, np.load(file) as digits:
        x = (digits["images"][..., np.newaxis] / 16).astype(np.float32)
        y = digits["labels"].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = folder / "train.npz", folder / "test.npz"
    np.savez(train, x=x[order[HELD_OUT:]], y=y[order[HELD_OUT:]])
    np.savez(test, x=x[order[:HELD_OUT]], y=y[order[:HELD_OUT]])
    np.save(folder / "digits.npy", x[order[:HELD_OUT]])
    return train, test


def train_model(samples: Path, path: Path) -> None:
    """Train for a few seconds and save the model: an ordinary Keras model, nothing in it is edgeferry's."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax", name="digit"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    with np.load(samples) as data:
        model.fit(data["x"], data["y"], batch_size=32, epochs=5, verbose=0)
    model.save(path)


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    train, test = write_samples(folder)
    train_model(train, folder / "digits.keras")
    # the command `edgeferry convert`, of this very Python
    command = [sys.executable, "-m", "edgeferry.fleet", "convert", str(folder / "digits.keras")]
    command += [option for profile in PROFILES for option in ("-p", profile)]
    command += ["--name", "digits", "--calibration", str(train), "--evaluation", str(test)]
    command += ["--max-drop", "0.03"]  # what some hundred held-out digits can show with 95 % confidence
    return subprocess.run([*command, "-o", str(folder / "artifacts")], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/digits")))
