"""The parent's half of a training: the child process, then proof of what it made, then the files in their place.

Imports no TensorFlow. Nothing is written into the output folder before all is done; it appears at once, or not at all.
"""

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgeferry.converter.arrays import read_arrays
from edgeferry.converter.child import DEFAULT_DEADLINE_S, Step, run_child
from edgeferry.converter.errors import ArtifactError, RequestError
from edgeferry.converter.evaluate import Evaluation, evaluate
from edgeferry.converter.formats.registry import FormatName, detect
from edgeferry.converter.measure import Measurement, measure, parse_specs
from edgeferry.converter.preparing.source import prepare, told_by_source
from edgeferry.converter.samples import Samples
from edgeferry.converter.stages import Stages
from edgeferry.converter.toolchain import versions
from edgeferry.converter.training.observing import EPOCHS, STOP
from edgeferry.converter.training.recipe import Recipe

__all__ = ["Trained", "TrainingRequest", "compressed_bytes", "stop", "train"]

_LEVEL = 9  # of zlib
_PRODUCTS = ("model.tflite", "model.keras")


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """A training to do.

    Attributes:
        model: A ``.keras`` or ``.h5`` file.
        recipe: As `recipe.checked` returns it, its data named.
        output: Folder that is made.
        keeps_float: Whether layers without an integer form stay in float.
        preprocessing: File that declares how samples that are no arrays become inputs.
    """

    model: Path
    recipe: Recipe
    output: Path
    keeps_float: bool = False
    deadline_s: float = DEFAULT_DEADLINE_S
    preprocessing: Path | None = None

    @property
    def data(self) -> Path:
        """Return the file to learn from."""
        return Path(self.recipe.data or "")

    @property
    def evaluation(self) -> Path:
        """Return the file that judges."""
        return Path(self.recipe.evaluation or self.recipe.data or "")

    @property
    def is_held_out(self) -> bool:
        """Return whether the result is judged by other samples than those that it learned from."""
        return self.recipe.evaluation is not None


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a model's file, as it is and as zlib leaves it."""

    file_bytes: int
    compressed_bytes: int


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training came to.

    Attributes:
        evaluation: Of the trained model beside the source.
        agreement: How far the ``.tflite`` answers as the model did in training: share of equal classes, or R2.
        before: Sizes of the source as a float ``.tflite``.
        after: Sizes of the trained model.
        latency_ms: Of source and trained model on this host, one thread.
        report: The child's own, see `trainer.Report`.
    """

    evaluation: Evaluation
    agreement: float
    before: Sizes
    after: Sizes
    latency_ms: tuple[float, float]
    report: Mapping[str, Any]


def train(request: TrainingRequest, say: Callable[[str], None], watch: Callable[[Step], None], home: Path) -> Trained:
    """Return what ``request`` comes to; its output folder is written.

    Args:
        request: What to do.
        say: Called with a sentence at each step and after each epoch.
        watch: Told how far a child process is.
        home: An empty folder for files in between; `stop` ends a training that works there.

    Raises:
        ConverterError: See `errors`; nothing was written.
    """
    _check(request)
    stages = Stages(None, watch)
    sources = _prepared(request, stages, say, home)
    folder = home / "child"
    with told_by_source(sources):
        learnt_from, judged_by = sources[request.data], sources[request.evaluation]
        Samples.load(learnt_from)
        samples = Samples.load(judged_by)
        say(f"training {request.model.name}: {', '.join(request.recipe.techniques)}")
        report = run_child(
            "edgeferry.converter.training",
            {
                "model": request.model,
                "data": learnt_from,
                "evaluation": judged_by,
                "recipe": msgspec.to_builtins(request.recipe),
                "keeps_float": request.keeps_float,
            },
            folder=folder,
            what=f"training {request.model.name}",
            deadline_s=request.deadline_s,
            watch=_EpochTeller(folder / EPOCHS, say, watch),
        )
    say("running the model as it was and as it is on the evaluation samples")
    trained = _judged(request, samples, folder, report, stages)
    _write(request, trained, folder)
    return trained


def _prepared(request: TrainingRequest, stages: Stages, say: Callable[[str], None], home: Path) -> dict[Path, Path]:
    """Return where the samples of each source can be read."""
    return {
        source: prepare(
            stages,
            source,
            folder=home / f"samples-{number}",
            say=say,
            deadline_s=request.deadline_s,
            preprocessing=request.preprocessing,
        )
        for number, source in enumerate(dict.fromkeys((request.data, request.evaluation)))
    }


def stop(home: Path) -> None:
    """Let the training that works in ``home`` end soon, with the best weights that it has."""
    (home / "child" / STOP).touch()


def compressed_bytes(path: Path) -> int:
    """Return how large a file is when zlib has compressed it."""
    return len(zlib.compress(path.read_bytes(), _LEVEL))


class _EpochTeller:
    """Says each epoch that the child has written down, and passes on the rest."""

    def __init__(self, path: Path, say: Callable[[str], None], watch: Callable[[Step], None]) -> None:
        self._path = path
        self._say = say
        self._watch = watch
        self._told = 0

    def __call__(self, step: Step) -> None:
        lines = self._path.read_text().splitlines(keepends=True) if self._path.exists() else []
        for line in lines[self._told :]:
            if line.endswith("\n"):
                self._say(_sentence(json.loads(line)))
                self._told += 1
        self._watch(step)


def _sentence(epoch: Mapping[str, Any]) -> str:
    best = ", best so far" if epoch["is_best"] else ""
    return (
        f"{epoch['phase']}, epoch {epoch['number']} of {epoch['epochs']}: loss {epoch['loss']:.4g}, "
        f"{epoch['held_back_loss']:.4g} on samples held back{best}"
    )


def _check(request: TrainingRequest) -> None:
    found = detect(request.model)
    if found.name not in (FormatName.KERAS, FormatName.HDF5):
        raise RequestError(
            f"{request.model}: is a {found.title}; training needs the Keras model that it was made of, .keras or .h5"
        )
    if request.recipe.data is None:
        raise RequestError("no samples to learn from; give --data train.npz, or data: train.npz in the recipe")
    if request.output.exists() and (not request.output.is_dir() or any(request.output.iterdir())):
        raise RequestError(f"{request.output}: is there already; name a new folder with -o")
    try:
        request.output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(prefix=".edgeferry-", dir=request.output.parent).cleanup()
    except OSError as err:
        raise ArtifactError(f"{request.output}: cannot be written: {err.strerror}") from err


def _judged(
    request: TrainingRequest, samples: Samples, folder: Path, report: Mapping[str, Any], stages: Stages
) -> Trained:
    inputs = parse_specs(report["inputs"])
    models = folder / "source.tflite", folder / "model.tflite"
    before, after = (
        measure(
            stages,
            model,
            samples.path,
            inputs,
            folder=folder.parent / f"measured.{model.stem}",
            what=f"running {model.name}",
            deadline_s=request.deadline_s,
        )
        for model in models
    )
    return Trained(
        evaluation=evaluate(before.results, after.results, samples.labels),
        agreement=_agreement(folder / "answers", after),
        before=_sizes(models[0]),
        after=_sizes(models[1]),
        latency_ms=(before.latency_ms, after.latency_ms),
        report=report,
    )


def _agreement(answers: Path, after: Measurement) -> float:
    trained = {name: np.asarray(array) for name, array in read_arrays(answers).items()}
    return evaluate(trained, after.results, None).score


def _sizes(path: Path) -> Sizes:
    return Sizes(path.stat().st_size, compressed_bytes(path))


def _write(request: TrainingRequest, trained: Trained, folder: Path) -> None:
    told = {
        "model": str(request.model),
        "recipe": msgspec.to_builtins(request.recipe),
        "tools": versions(),
        "held_out": request.is_held_out,
        "evaluation": msgspec.to_builtins(trained.evaluation),
        "agreement": trained.agreement,
        "before": msgspec.to_builtins(trained.before),
        "after": msgspec.to_builtins(trained.after),
        "latency_ms": {"before": trained.latency_ms[0], "after": trained.latency_ms[1]},
        "epochs": trained.report["epochs"],
        "complete": trained.report["is_complete"],
        "layers": trained.report["layers"],
    }
    beside = Path(tempfile.mkdtemp(prefix=f".{request.output.name}.", dir=request.output.parent))
    try:
        beside.chmod(0o755)
        for name in _PRODUCTS:
            shutil.copyfile(folder / name, beside / name)
        (beside / "training.json").write_text(json.dumps(told, indent=1) + "\n")
        for path in beside.iterdir():
            _sync(path)
        _sync(beside)
        beside.replace(request.output)
        _sync(request.output.parent)
    except OSError as err:
        raise ArtifactError(f"{request.output}: cannot be written: {err.strerror}") from err
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
