"""What a whole conversion costs, of a MobileNet-size model at 224 x 224 from its SavedModel, as ratios in one run.

    python bench/conversion.py [--samples 200] [--runs 3]

- one: the whole command for one profile and int8, beside one float and one int8 conversion by TensorFlow's converter in
  one process. Judging is not compared: eight samples do it.
- four: the whole command for four profiles that share their schemes, beside the same for one of them.
- warm: the latter once more with the cache that the first run has left.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from quantize import MAKE, TENSORFLOW, Cost, cost_of

PROFILES = ("raspberry-pi-4", "raspberry-pi-5", "raspberry-pi-zero-2w", "generic-x86-64")
FLOAT_TOO = TENSORFLOW.replace("converter.optimizations", "converter.convert()\nconverter.optimizations", 1)
JUDGES = 8


def command(folder: Path, profiles: Sequence[str], *more: str) -> list[str]:
    with tempfile.TemporaryDirectory(dir=folder) as out:
        pass  # a name that nobody has
    samples = ["--calibration", f"{folder}/samples.npz", "--evaluation", f"{folder}/judges.npz"]
    options = [*samples, "--name", "bench", "--max-drop", "1", "-o", out, *more]
    wanted = [word for profile in profiles for word in ("-p", profile)]
    return [sys.executable, "-m", "edgeferry.fleet", "convert", f"{folder}/saved", *wanted, *options]


def told(what: str, ours: Sequence[Cost], others: Sequence[Cost], whose: str) -> None:
    print(f"{what}, beside {whose}:")
    for kind, figure in (("wall time", "wall_s"), ("processor time", "cpu_s")):
        here, there = ([getattr(cost, figure) for cost in costs] for costs in (ours, others))
        ratio = statistics.median(a / b for a, b in zip(here, there, strict=True))
        print(
            f"  {kind}: {statistics.median(here):.1f} s and {statistics.median(there):.1f} s, ratio {ratio:.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_CACHE_HOME"] = f"{name}/cache"
        subprocess.run([sys.executable, "-c", MAKE, name, str(options.samples)], check=True, capture_output=True)
        x = np.random.default_rng(1).random((JUDGES, 224, 224, 3), np.float32)
        np.savez(folder / "judges.npz", x=x)
        one, four = PROFILES[:1], PROFILES
        int8 = ("--scheme", "int8", "--no-cache")
        ones, theirs, alls, alones = [], [], [], []
        for _ in range(options.runs):
            ones.append(cost_of(command(folder, one, *int8)))
            theirs.append(cost_of([sys.executable, "-c", FLOAT_TOO, name]))
            alls.append(cost_of(command(folder, four, "--no-cache")))
            alones.append(cost_of(command(folder, one, "--no-cache")))
        told("one profile, int8", ones, theirs, "TensorFlow's float and int8")
        told("four profiles, every scheme", alls, alones, "one profile")
        cold = cost_of(command(folder, one))
        told("warm cache", [cost_of(command(folder, one)) for _ in range(options.runs)], [cold] * options.runs, "cold")


if __name__ == "__main__":
    main()
