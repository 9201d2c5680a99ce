"""Where models are made: the float ``.tflite`` of a source, and variants of it, each measured on the same samples.

Decides what is a failure of one variant (the others go on) and what is a failure of the conversion.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from edgeferry.converter.arrays import read_arrays
from edgeferry.converter.culprit import explained_crash
from edgeferry.converter.difference import find_difference
from edgeferry.converter.errors import ConversionDiffersError, ConverterError, CrashError, RequestError
from edgeferry.converter.evaluate import evaluate
from edgeferry.converter.formats.registry import Format, FormatName
from edgeferry.converter.measure import Measurement, measure, parse_specs
from edgeferry.converter.quantize import quantize
from edgeferry.converter.repair.attempts import Findings, make_attempts
from edgeferry.converter.repair.plan import Attempt, Rung, attempts
from edgeferry.converter.request import ConversionRequest
from edgeferry.converter.samples import Samples
from edgeferry.converter.schemes import Engine, Variant
from edgeferry.converter.selection import Candidate, Unavailable
from edgeferry.converter.stages import Stages
from edgeferry.converter.training.job import training_job
from edgeferry.device_profiles import Scheme
from edgeferry.wire.desired import TensorSpec

__all__ = ["Made", "Progress", "Workshop"]

Progress = Callable[[str], None]

_COMPARED_SAMPLES = 32  # enough to see a wrong conversion; source models can be slow


@dataclass(frozen=True, slots=True)
class Made:
    """A model that was made, measured and evaluated."""

    variant: Variant
    model: Path
    measurement: Measurement
    candidate: Candidate


class Workshop:
    """Makes models for one request in one folder, and judges them by ``samples``."""

    def __init__(
        self, request: ConversionRequest, samples: Samples, folder: Path, progress: Progress, stages: Stages
    ) -> None:
        self._stages = stages
        self._request = request
        self._samples = samples
        self._folder = folder
        self._progress = progress
        self._numbers = count()
        self._source_job: dict[str, object] = {}
        self._stopwatch = threading.Lock()  # one model is measured at a time: the others would cost it time

    def make_float(self, source_format: Format) -> Made:
        """Return the float model, which has been seen to compute what the source computes.

        Raises:
            ConverterError: The source does not load, run or convert, or the samples do not fit it.
        """
        if self._request.engine is Engine.TENSORFLOW and source_format.name is FormatName.TFLITE:
            raise RequestError("--engine tensorflow needs the model that the .tflite was made of; leave it out")
        name = self._request.model.name
        folder = self._folder / "source"
        self._progress(f"converting {name} to TensorFlow Lite")
        self._source_job = {
            "format": source_format.name,
            "model": self._request.model,
            "signature": self._request.signature,
            "shapes": {name: list(shape) for name, shape in self._request.shapes.items()},
        }
        job = {
            **self._source_job,
            "samples": self._samples.path,
            "calibration": self._request.calibration,
            "allows_select_tf": any(profile.allow_select_tf_ops for profile in self._request.profiles),
            "compared": _COMPARED_SAMPLES,
            "metric": self._request.metric,
        }
        result = self._run_source(job, folder)
        self._progress("running the float model on all samples")
        inputs = parse_specs(result["inputs"])
        measurement = self._measure(Variant(Scheme.FLOAT32), folder / "float.tflite", inputs)
        self._compare(folder / "source", measurement)
        return self._made(Variant(Scheme.FLOAT32), folder / "float.tflite", measurement, measurement)

    def _run_source(self, job: Mapping[str, object], folder: Path) -> dict[str, Any]:
        """Return what running and converting the source comes to.

        Raises:
            CrashError: TensorFlow crashed; the error names the operation, where it can be found.
            ConverterError: See `make_float`.
        """
        module, what = "edgeferry.converter.formats", f"converting {self._request.model.name}"
        outputs, deadline_s = ["float.tflite", "source"], self._request.deadline_s
        try:
            return self._stages.run(module, job, folder=folder, what=what, outputs=outputs, deadline_s=deadline_s)
        except CrashError as err:
            self._progress("TensorFlow crashed; looking for the operation that did it")
            raise explained_crash(err, module, job, self._new_folder("crashed")) from err

    def make(self, variant: Variant, float_model: Made) -> Made | Unavailable:
        """Return ``variant``, or why there is none."""
        if variant == float_model.variant:
            return float_model
        self._progress(f"making and measuring {variant}")
        try:
            return self.judge(variant, self._quantized(variant, float_model), float_model)
        except ConverterError as err:
            return Unavailable(variant.scheme, str(err))

    def _quantized(self, variant: Variant, float_model: Made) -> Path:
        folder = self._folder / variant.file_name
        if self._request.engine is Engine.TENSORFLOW:
            return self._quantized_by_tensorflow(variant, folder)
        return quantize(
            self._stages,
            float_model.model,
            variant,
            self._request.calibration,
            folder=folder,
            deadline_s=self._request.deadline_s,
        )

    def _quantized_by_tensorflow(self, variant: Variant, folder: Path) -> Path:
        job = {
            **self._source_job,
            "samples": self._request.calibration or self._samples.path,
            "scheme": variant.scheme,
            "io": variant.io,
            "per_channel": variant.is_per_channel,
        }
        self._stages.run(
            "edgeferry.converter.formats.quantizing",
            job,
            folder=folder,
            what=f"making {variant} with TensorFlow",
            outputs=["model.tflite"],
            deadline_s=self._request.deadline_s,
        )
        return folder / "model.tflite"

    def attempt(self, variant: Variant, rung: Rung, float_model: Made) -> Findings:
        """Return what was made and found on one rung for ``variant``, which has the repairs of the rungs below.

        Raises:
            ConverterError: The child process failed.
        """
        self._progress(f"repairing {variant}: {rung}")
        if rung is Rung.TRAINING:
            return self._trained(variant)
        return make_attempts(
            self._stages,
            float_model.model,
            variant,
            rung,
            self._request.calibration or self._samples.path,
            folder=self._new_folder(f"{variant.file_name}.{rung.name.lower()}"),
            deadline_s=self._request.deadline_s,
        )

    def _trained(self, variant: Variant) -> Findings:
        samples = self._request.calibration or self._samples.path
        folder = self._new_folder(f"{variant.file_name}.training")
        job = training_job(self._request.model, samples)
        outputs = ["model.tflite"]
        what, deadline_s = f"training {self._request.model.name}", self._request.deadline_s
        self._stages.run(
            "edgeferry.converter.training", job, folder=folder, what=what, outputs=outputs, deadline_s=deadline_s
        )
        made = tuple(Attempt(repair, 0.0, outputs[0]) for repair in attempts(Rung.TRAINING, variant.repair))
        return Findings(folder, made, (), ())

    def judge(self, variant: Variant, model: Path, float_model: Made) -> Made:
        """Return the model in the file ``model``, measured and evaluated on all samples.

        Raises:
            ConverterError: It cannot be run.
        """
        with self._stopwatch:
            measurement = self._measure(variant, model, float_model.measurement.inputs)
        return self._made(variant, model, measurement, float_model.measurement)

    def _measure(self, variant: Variant, model: Path, inputs: Sequence[TensorSpec]) -> Measurement:
        return measure(
            self._stages,
            model,
            self._samples.path,
            inputs,
            folder=self._new_folder(f"{variant.file_name}.measured"),
            what=f"running {variant}",
            deadline_s=self._request.deadline_s,
        )

    def _new_folder(self, name: str) -> Path:
        """Return a folder of its own: repairs share their variant's name, and results stay memory-mapped."""
        return self._folder / f"{name}.{next(self._numbers)}"

    def _made(self, variant: Variant, model: Path, measurement: Measurement, float_model: Measurement) -> Made:
        candidate = Candidate(
            scheme=variant.stored_as,
            repaired_by=variant.repair.sentence,
            size_bytes=model.stat().st_size,
            memory_bytes=measurement.memory_bytes,
            latency_ms=measurement.latency_ms,
            p95_ms=measurement.p95_ms,
            operations=measurement.operations,
            evaluation=evaluate(float_model.results, measurement.results, self._samples.labels, self._request.metric),
        )
        return Made(variant, model, measurement, candidate)

    def _compare(self, source: Path, float_model: Measurement) -> None:
        difference = find_difference(read_arrays(source), float_model.results)
        if difference is not None:
            raise ConversionDiffersError(
                f"{self._request.model.name} converts, but the result computes something else: {difference.sentence}; "
                "export it as a SavedModel and convert that, or replace what its last layers do"
            )
