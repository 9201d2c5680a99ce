"""What a second conversion of the same things costs: cold and warm, on this machine, in one run.

    python bench/warm_cache.py MODEL SAMPLES.npz [--profile raspberry-pi-4] [--runs 5]

Each run is the whole command in a process of its own, from the shell's prompt to its end; the cache is a new one.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def convert(model: Path, samples: Path, profile: str, folder: Path) -> float:
    command = [sys.executable, "-m", "edgeferry.fleet", "convert", str(model), "-p", profile, "--name", "bench"]
    given = ["--calibration", str(samples), "-o", str(folder / "out"), "--max-drop", "1"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    begun_s = time.perf_counter()
    subprocess.run([*command, *given], check=True, capture_output=True, env=environment)
    return time.perf_counter() - begun_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--profile", default="raspberry-pi-4")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cold_s = convert(options.model, options.samples, options.profile, Path(folder))
        warm_s = [convert(options.model, options.samples, options.profile, Path(folder)) for _ in range(options.runs)]
    print(f"cold {cold_s:.1f} s; warm median {statistics.median(warm_s):.2f} s, worst {max(warm_s):.2f} s")


if __name__ == "__main__":
    main()
