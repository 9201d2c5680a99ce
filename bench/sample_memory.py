"""Whether memory grows with the number of samples: one conversion to int8 with few, and one with many of them.

    python bench/sample_memory.py [--few 200] [--many 2000] [--files]

A MobileNetV2 at 224 x 224 with random weights is calibrated on random pictures, in an array or, with `--files`, in a
folder of PNG files that are decoded, cut and scaled. What is told is the greatest sum of the
proportional set sizes (PSS, in which a page that two processes share counts once) of the command and all its children,
looked at twenty times a second. PSS counts pages of files that are mapped, and not the system's cache.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

_MAKE = """
import sys, keras, tensorflow as tf
keras.utils.set_random_seed(0)
net = keras.applications.MobileNetV2((224, 224, 3), weights=None)
archive = keras.export.ExportArchive()
archive.track(net)
archive.add_endpoint("serving_default", lambda x: net(x, training=False), [tf.TensorSpec((1, 224, 224, 3), name="x")])
archive.write_out(sys.argv[1] + "/saved", verbose=False)
converter = tf.lite.TFLiteConverter.from_saved_model(sys.argv[1] + "/saved")
open(sys.argv[1] + "/float.tflite", "wb").write(converter.convert())
"""
_DECLARED = """
kind: image
resize: {height: 224, width: 224, fit: cover}
scale: 1/255
"""
_COMMAND = [sys.executable, "-m", "edgeferry.fleet", "convert", "--name=net", "--profile=raspberry-pi-4"]
_COMMAND += ["--scheme=int8", "--max-drop=1", "--no-cache"]
_LOOK_EVERY_S = 0.05
_EVALUATED = 20


def pictures(path: Path, count: int) -> Path:
    """Write ``count`` random pictures as an array in a new folder, without holding them."""
    random = np.random.default_rng(0)
    path.mkdir()
    array = np.lib.format.open_memmap(path / "x.npy", "w+", np.float32, (count, 224, 224, 3))
    for index in range(count):
        array[index] = random.random((224, 224, 3), np.float32)
    return path


def picture_files(folder: Path, count: int) -> Path:
    """Write ``count`` random pictures of 320 x 240 into a new folder."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for index in range(count):
        coarse = random.integers(0, 256, (24, 32, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((320, 240)).save(folder / f"{index}.png")
    return folder


def peak_bytes(command: list[str]) -> int:
    """Run ``command`` to its end and return the greatest memory of it and its children together."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(_pss(one) for one in [process.pid, *_children(process.pid)]))
        time.sleep(_LOOK_EVERY_S)
    if process.returncode != 0 and process.stderr is not None:
        raise SystemExit(f"{command[:4]} failed: {process.stderr.read().decode()[-500:]}")
    return peak


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (OSError, ProcessLookupError):
        return 0  # it has ended
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def _paths(folder: Path, samples: Path, held_out: Path) -> list[str]:
    """Return the options that name files."""
    (folder / "pictures.yaml").write_text(_DECLARED)
    given = {"calibration": samples, "evaluation": held_out, "preprocessing": folder / "pictures.yaml"}
    made = folder / f"made-{samples.name}"
    return [*(f"--{option}={path}" for option, path in given.items()), f"--output={made}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--few", type=int, default=200)
    parser.add_argument("--many", type=int, default=2000)
    parser.add_argument("--files", action="store_true")
    options = parser.parse_args()
    write = picture_files if options.files else pictures
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-c", _MAKE, name], check=True, capture_output=True)
        held_out = write(folder / "held_out", _EVALUATED)
        peaks = []
        for count in (options.few, options.many):
            samples = write(folder / f"samples-{count}", count)
            peaks.append(peak_bytes([*_COMMAND, f"{name}/float.tflite", *_paths(folder, samples, held_out)]))
    few, many = (peak / 2**20 for peak in peaks)
    told = f"{options.few} samples {few:.0f}, {options.many} samples {many:.0f}"
    print(f"peak memory in MiB: {told}, ratio {many / few:.3f}")


if __name__ == "__main__":
    main()
