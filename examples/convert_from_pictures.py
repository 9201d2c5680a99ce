"""Train a small Keras model on folders of real pictures, and convert it with the same folders as samples.

    python examples/convert_from_pictures.py [FOLDER]

Leaves in FOLDER, by default `build/faces`, the pictures (100 faces, 100 other cuttings of photographs, from the package
scikit-image, which is fetched when it is not there yet), `faces.yaml`, which says once how a picture becomes an input,
the model `faces.keras`, and the artifact, which carries both. At last the artifact alone is asked about pictures: it
knows by itself how to prepare them and what its classes are called. Needs edgeferry[host].
"""

import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
from PIL import Image

SIDE = 24
HELD_OUT = 40  # of each class
FACES = """\
kind: image
color: gray
resize: {height: 24, width: 24, antialias: false}  # as image_dataset_from_directory does it
scale: 1/255
"""


def fetch_pictures(folder: Path) -> np.ndarray:
    """Return 200 pictures, 25 x 25, of which the first half are faces (a part of Labeled Faces in the Wild)."""
    if not list(folder.glob("scikit_image-*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*command, "--dest", str(folder), "scikit-image==0.26.0"], check=True)
    (wheel,) = folder.glob("scikit_image-*.whl")
    with zipfile.ZipFile(wheel) as archive, archive.open("skimage/data/lfw_subset.npy") as file:
        return np.load(file, allow_pickle=False)


def write_pictures(pictures: np.ndarray, folder: Path) -> None:
    """Write each into a folder for its class, below `train` and `test`."""
    for number, pixels in enumerate(pictures):
        name, at = ("face", number) if number < len(pictures) // 2 else ("other", number - len(pictures) // 2)
        path = folder / ("test" if at < HELD_OUT else "train") / name / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255).astype(np.uint8)).save(path)


def pictures_for_keras(folder: Path) -> object:
    """Return the pictures of a folder as Keras reads them, with the same values as `FACES` gives."""
    found = keras.utils.image_dataset_from_directory(folder, color_mode="grayscale", image_size=(SIDE, SIDE), seed=0)
    return found.map(lambda pictures, classes: (pictures / 255, classes))


def train_model(folder: Path, path: Path) -> None:
    """Train for a few seconds, and save the model: an ordinary Keras model, nothing in it is edgeferry's."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1), name="picture"),
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax", name="kind"),
        ]
    )
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(pictures_for_keras(folder / "train"), epochs=30, verbose=0)
    model.save(path)
    _, accuracy = model.evaluate(pictures_for_keras(folder / "test"), verbose=0)
    print(f"accuracy as Keras has it: {accuracy:.4f}")


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/faces")
    folder.mkdir(parents=True, exist_ok=True)
    write_pictures(fetch_pictures(folder), folder)
    (folder / "faces.yaml").write_text(FACES)
    train_model(folder, folder / "faces.keras")
    convert = ["edgeferry", "convert", str(folder / "faces.keras"), "-p", "raspberry-pi-4", "--name", "faces"]
    samples = ["--calibration", str(folder / "train"), "--evaluation", str(folder / "test")]
    declared = ["--preprocessing", str(folder / "faces.yaml"), "--max-drop", "0.05", "-o", str(folder / "artifacts")]
    subprocess.run([*convert, *samples, *declared], check=True)
    artifact = max((folder / "artifacts" / "faces").glob("*/raspberry-pi-4"), key=lambda path: int(path.parent.name))
    subprocess.run(["edgeferry", "predict", str(artifact), "--input", str(folder / "test")], check=True)


if __name__ == "__main__":
    main()
