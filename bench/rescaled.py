"""What the repair ladder does for a net whose channels were rescaled, and how long it takes.

    python bench/rescaled.py [--runs 3]

A small classifier of handwritten digits is trained; then the channels of a convolution are multiplied by up to 300,
which the next one takes back, so that the float answers stay the same. Plain int8 is set beside what the ladder makes
of it, which sees no labels; the time of repair is that of the whole command less that of the same without repair.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from edgeferry.fleet.demo.digits import write_digits

SCALER = Path(__file__).resolve().parent.parent / "tests" / "converter" / "scaled_digits.py"


def run(*arguments: object) -> str:
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return done.stdout


def converted(folder: Path, *more: str) -> tuple[Any, float]:
    """Return what plain or repaired int8 came to, and how long the command took."""
    samples = ["--calibration", folder / "train.npz", "--evaluation", folder / "test.npz", "--no-cache", "--json"]
    options = ["-p", "raspberry-pi-4", "--scheme", "int8", "--name", "rescaled", "-o", folder / "out", *more]
    begun_s = time.perf_counter()
    told = run("-m", "edgeferry.fleet", "convert", folder / "scaled.keras", *samples, *options)
    return json.loads(told)["profiles"][0]["candidates"][0], time.perf_counter() - begun_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_digits(folder)
        run("-m", "edgeferry.converter.training.image_classifier", folder / "train.npz", folder / "plain.keras")
        run(SCALER, folder / "plain.keras", folder / "scaled.keras")
        pairs = [(converted(folder, "--no-repair", "--max-drop", "1"), converted(folder)) for _ in range(options.runs)]
    (plain, _), (repaired, _) = pairs[0]
    repair_s = min(cost for _, (_, cost) in pairs) - min(cost for (_, cost), _ in pairs)
    scores = f"float {plain['evaluation']['float']:.4f}, plain int8 {plain['evaluation']['candidate']:.4f}"
    print(
        f"{scores}, {repaired['repaired_by']}: {repaired['evaluation']['candidate']:.4f}, in {repair_s:.1f} s of repair"
    )


if __name__ == "__main__":
    main()
