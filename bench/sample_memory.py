"""Whether memory grows with the number of samples: one conversion to int8 with few, and one with many of them.

    python bench/sample_memory.py [--few 200] [--many 2000]

A MobileNetV2 at 224 x 224 with random weights is calibrated on random pictures. What is told is the greatest sum of the
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
_LOOK_EVERY_S = 0.05
_EVALUATED = 20


def pictures(path: Path, count: int) -> Path:
    """Write ``count`` random pictures, without holding them."""
    random = np.random.default_rng(0)
    array = np.lib.format.open_memmap(path, "w+", np.float32, (count, 224, 224, 3))
    for index in range(count):
        array[index] = random.random((224, 224, 3), np.float32)
    return path


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--few", type=int, default=200)
    parser.add_argument("--many", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-c", _MAKE, name], check=True, capture_output=True)
        held_out = pictures(folder / "held_out.npy", _EVALUATED)
        peaks = []
        for count in (options.few, options.many):
            samples = pictures(folder / f"{count}.npy", count)
            command = [
                sys.executable,
                "-m",
                "edgeferry.fleet",
                "convert",
                str(folder / "float.tflite"),
                "--name",
                "net",
            ]
            wanted = [
                "-p",
                "raspberry-pi-4",
                "--scheme",
                "int8",
                "--max-drop",
                "1",
                "--no-cache",
                "-o",
                f"{name}/{count}",
            ]
            peaks.append(peak_bytes([*command, *wanted, "--calibration", str(samples), "--evaluation", str(held_out)]))
            samples.unlink()
    few, many = (peak / 2**20 for peak in peaks)
    told = f"{options.few} samples {few:.0f}, {options.many} samples {many:.0f}"
    print(f"peak memory in MiB: {told}, ratio {many / few:.3f}")


if __name__ == "__main__":
    main()
