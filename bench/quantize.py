"""The quantize step beside TensorFlow's own: wall time and peak memory, of a MobileNet-size model at 224 x 224.

    python bench/quantize.py [--samples 200] [--runs 3]

Both make int8 from the same weights and calibrate on the same samples, each in a process of its own whose peak resident
set the kernel tells: edgeferry's child from the float ``.tflite``, TensorFlow's converter from the SavedModel. The
weights are random: neither tool's time depends on them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from edgeferry.converter.schemes import Variant, recipe
from edgeferry.device_profiles import Scheme

MAKE = """
import sys, keras, numpy as np, tensorflow as tf
folder, samples = sys.argv[1], int(sys.argv[2])
keras.utils.set_random_seed(0)
net = keras.applications.MobileNetV2((224, 224, 3), weights=None)
archive = keras.export.ExportArchive()
archive.track(net)
archive.add_endpoint("serving_default", lambda x: net(x, training=False), [tf.TensorSpec((1, 224, 224, 3), name="x")])
archive.write_out(folder + "/saved", verbose=False)
open(folder + "/float.tflite", "wb").write(tf.lite.TFLiteConverter.from_saved_model(folder + "/saved").convert())
np.savez(folder + "/samples.npz", x=np.random.default_rng(0).random((samples, 224, 224, 3), np.float32))
"""

TENSORFLOW = """
import sys, numpy as np, tensorflow as tf
folder = sys.argv[1]
x = np.load(folder + "/samples.npz")["x"]
converter = tf.lite.TFLiteConverter.from_saved_model(folder + "/saved")
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([row[None]] for row in x)
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
open(folder + "/tensorflow.tflite", "wb").write(converter.convert())
"""


@dataclass(frozen=True)
class Cost:
    """What one process took, and those that it waited for.

    Attributes:
        cpu_s: Of all processors; steady where others work on the machine, too.
    """

    wall_s: float
    peak_bytes: int
    cpu_s: float


def cost_of(command: list[str]) -> Cost:
    """Run ``command`` to its end and return what it took."""
    began_s = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{command[:4]} failed")
    return Cost(time.monotonic() - began_s, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime)


def job(folder: Path) -> Path:
    """Return the folder of a job for edgeferry's child."""
    made = folder / "job"
    made.mkdir()
    wanted = {"model": f"{folder}/float.tflite", "samples": f"{folder}/samples.npz"}
    (made / "job.json").write_text(json.dumps({**wanted, "recipe": recipe(Variant(Scheme.INT8))}))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-c", MAKE, name, str(options.samples)], check=True, capture_output=True)
        ours_command = [sys.executable, "-P", "-m", "edgeferry.converter.quantize", str(job(folder))]
        theirs_command = [sys.executable, "-c", TENSORFLOW, name]
        pairs = [(cost_of(ours_command), cost_of(theirs_command)) for _ in range(options.runs)]
    for what, figure, unit in (
        ("wall time in s", "wall_s", 1.0),
        ("processor time in s", "cpu_s", 1.0),
        ("peak memory in MiB", "peak_bytes", 2.0**20),
    ):
        ours, theirs = ([getattr(cost, figure) / unit for cost in costs] for costs in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        medians = f"edgeferry {statistics.median(ours):.1f}, TensorFlow {statistics.median(theirs):.1f}"
        print(f"{what}: {medians}, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
