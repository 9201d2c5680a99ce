"""What a training came to: proof on the evaluation samples, and the files in their place.

Nothing is written into the output folder before all is done; it appears at once, or not at all.
"""

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgeferry.converter.arrays import read_arrays
from edgeferry.converter.errors import ArtifactError
from edgeferry.converter.evaluate import Evaluation, evaluate
from edgeferry.converter.measure import Measurement, measure, parse_specs
from edgeferry.converter.metrics import Metric
from edgeferry.converter.samples import Samples
from edgeferry.converter.stages import Stages
from edgeferry.converter.toolchain import versions
from edgeferry.converter.training.request import TrainingRequest

__all__ = ["Sizes", "Trained", "compressed_bytes", "judged", "write"]

_LEVEL = 9  # of zlib
_OF_CLASSES = (Metric.ACCURACY, Metric.TOP1_AGREEMENT)  # what `evaluate` takes unless it is told
_PRODUCTS = ("model.tflite", "model.keras")


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

    @property
    def idle_phases(self) -> tuple[str, ...]:
        """Return the names of phases that have brought nothing on the samples that were held back."""
        best: dict[str, bool] = {}
        for epoch in self.report["epochs"]:
            best[epoch["phase"]] = best.get(epoch["phase"], False) or epoch["is_best"]
        return tuple(phase for phase, has_best in best.items() if not has_best)

    @property
    def is_agreement_of_classes(self) -> bool:
        """Return whether the agreement is a share of samples."""
        return self.evaluation.metric in _OF_CLASSES


def judged(
    request: TrainingRequest, samples: Samples, folder: Path, report: Mapping[str, Any], stages: Stages
) -> Trained:
    """Return what the models in ``folder`` do on the evaluation samples.

    Raises:
        ConverterError: One of them cannot be run.
    """
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
    evaluation = evaluate(before.results, after.results, samples.labels)
    return Trained(
        evaluation=evaluation,
        agreement=_agreement(folder / "answers", after, of_classes=evaluation.metric in _OF_CLASSES),
        before=_sizes(models[0]),
        after=_sizes(models[1]),
        latency_ms=(before.latency_ms, after.latency_ms),
        report=report,
    )


def _agreement(answers: Path, after: Measurement, *, of_classes: bool) -> float:
    trained = {name: np.asarray(array) for name, array in read_arrays(answers).items()}
    return evaluate(trained, after.results, None, Metric.TOP1_AGREEMENT if of_classes else Metric.R2_AGREEMENT).score


def _sizes(path: Path) -> Sizes:
    return Sizes(path.stat().st_size, compressed_bytes(path))


def write(request: TrainingRequest, trained: Trained, folder: Path) -> None:
    """Put the models in ``folder`` and all figures into the output folder, which appears at once.

    Raises:
        ArtifactError: The disk refuses.
    """
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
        "weights_sha256": trained.report["weights_sha256"],
        "layers": trained.report["layers"],
        "multiply_accumulates": dict(zip(("before", "after"), trained.report["multiply_accumulates"], strict=True)),
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


def compressed_bytes(path: Path) -> int:
    """Return how large a file is when zlib has compressed it."""
    return len(zlib.compress(path.read_bytes(), _LEVEL))
