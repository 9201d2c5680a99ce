"""Runs samples through a model of any format on this machine, in a child process.

`predict` is the parent's half; run as a module, this file is the child. Job: ``model``, ``format``, ``signature`` (or
null), ``input``, and ``preprocessing``, a file or null. It leaves the outputs as real numbers in ``outputs``.
"""

import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.arrays import read_arrays, write_arrays
from edgeferry.converter.child import child_main, report_step, run_child
from edgeferry.converter.culprit import explained_crash
from edgeferry.converter.errors import ConverterError, CrashError, RequestError, SourceError
from edgeferry.converter.formats.registry import FormatName, detect
from edgeferry.converter.inspection.artifact_folder import find_artifact, read_artifact
from edgeferry.converter.prediction_inputs import Inputs, bind, read_arrays_file
from edgeferry.converter.prediction_models import LoadedModel, load_model
from edgeferry.converter.prediction_sources import is_prepared_first, prepared_arrays
from edgeferry.converter.preprocessing_file import read_preprocessing
from edgeferry.inference.description import Description
from edgeferry.inference.model import ModelError
from edgeferry.inference.preprocessing import Preprocessing, PreprocessingError, parse_preprocessing
from edgeferry.inference.quantization import dequantize, is_quantized

__all__ = ["Prediction", "main", "predict"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model answered.

    Attributes:
        samples: Number of samples.
        outputs: By name, as real numbers; the first axis counts the samples.
        latency_ms: Median time of one run on this machine, one thread.
        model: What the model calls itself, such as "digits 3, int8"; empty where it says nothing.
        doubt: Why what the model says of itself is not believed; empty where there is no doubt.
        labels: Of the classes, where the artifact or the model itself has them.
        truth: The class of each sample as the input file tells it; None where it does not.
    """

    samples: int
    outputs: Mapping[str, NDArray[Any]]
    latency_ms: float
    model: str
    doubt: str
    labels: tuple[str, ...]
    truth: NDArray[Any] | None


def predict(
    path: Path,
    inputs: Path,
    *,
    deadline_s: float,
    signature: str | None = None,
    preprocessing: Path | None = None,
) -> Prediction:
    """Return what the model at ``path`` answers to the samples in ``inputs``.

    Args:
        path: A SavedModel's folder, a ``.keras``, ``.h5`` or ``.tflite`` file, or an artifact folder.
        inputs: A ``.npz`` or ``.npy`` file: real values are quantized where the model is, arrays in the model's own
            integers are taken as they are. Or real data as `preparing` reads it.
        deadline_s: How long it may take.
        signature: Of a SavedModel or ``.tflite``; the serving one, or the only one, unless given.
        preprocessing: File that declares how real data becomes an input; what the model itself says unless given.

    Raises:
        ConverterError: The model or the samples cannot be read, do not fit each other, or the run fails.
    """
    folder = find_artifact(path)
    artifact = read_artifact(folder) if folder else None
    model = artifact.model if artifact else path
    known = detect(model)
    with tempfile.TemporaryDirectory(prefix="edgeferry-predict-") as scratch:
        job = {
            "model": str(model),
            "format": known.name,
            "signature": signature,
            "input": str(inputs),
            "preprocessing": str(preprocessing) if preprocessing else None,
        }
        module, what = "edgeferry.converter.prediction", f"running {model.name}"
        try:
            result = run_child(module, job, folder=Path(scratch), what=what, deadline_s=deadline_s)
        except CrashError as err:
            if known.name is not FormatName.SAVED_MODEL:
                raise
            raise explained_crash(err, module, job, Path(scratch) / "crashed") from err
        outputs = {name: np.array(array) for name, array in read_arrays(Path(scratch) / "outputs").items()}
    return Prediction(
        samples=result["samples"],
        outputs=outputs,
        latency_ms=result["latency_ms"],
        model=result["model"],
        doubt=result["doubt"],
        labels=(artifact.facts.labels if artifact else ()) or tuple(result["labels"]),
        truth=None if result["truth"] is None else np.array(result["truth"]),
    )


def main() -> None:
    """Do the job in the folder named on the command line."""
    child_main(_predict)


def _predict(job: dict[str, Any], folder: Path) -> Mapping[str, object]:
    path, samples = Path(job["model"]), Path(job["input"])
    report_step(folder, f"reading {samples.name}")
    is_raw = is_prepared_first(samples)
    arrays = {} if is_raw else read_arrays_file(samples)  # what is wrong with it is said before the model is loaded
    declared = read_preprocessing(Path(job["preprocessing"])) if job["preprocessing"] else None
    if declared is not None and not is_raw:
        raise RequestError(f"{samples}: holds arrays, which are taken as they are; leave --preprocessing out")
    report_step(folder, f"loading {path.name}")
    model = load_model(path, FormatName(job["format"]), job["signature"])
    told = model.description
    if is_raw:
        classes = told.metadata.labels if told.metadata else ()
        arrays = prepared_arrays(samples, declared or _own_preprocessing(told), classes, folder)
    inputs = bind(samples, arrays, told.inputs)
    report_step(folder, f"running {path.name}")
    outputs, latencies_ms = _run_all(inputs, model)
    write_arrays(folder / "outputs", outputs)
    first = told.inputs[0].shape
    return {
        "samples": inputs.runs * max(1, first[0] if first else 1),
        "latency_ms": statistics.median(latencies_ms),
        "truth": None if inputs.labels is None else inputs.labels.tolist(),
        "model": f"{told.metadata.name} {told.metadata.version}, {told.metadata.scheme}" if told.metadata else "",
        "doubt": told.doubt,
        "labels": told.metadata.labels if told.metadata else (),
    }


def _own_preprocessing(told: Description) -> Preprocessing | None:
    """Return what the model itself says of how data becomes its input."""
    if told.metadata is None or not told.metadata.preprocessing:
        return None
    try:
        return parse_preprocessing(told.metadata.preprocessing)
    except PreprocessingError as err:
        raise SourceError(f"the model's {err}") from err


def _run_all(inputs: Inputs, model: LoadedModel) -> tuple[dict[str, NDArray[Any]], list[float]]:
    quantized = {spec.name: spec for spec in model.description.outputs if is_quantized(spec)}
    answers: list[Mapping[str, NDArray[Any]]] = []
    latencies_ms = []
    for one in inputs:
        begun = time.perf_counter()
        try:
            answer = model.run(one)
        except ModelError as err:
            raise ConverterError(f"sample {len(answers)}: {err}") from err
        latencies_ms.append((time.perf_counter() - begun) * 1000)
        answers.append(
            {name: dequantize(array, quantized[name]) if name in quantized else array for name, array in answer.items()}
        )
    batch = next(iter(inputs.arrays.values())).shape[1:2]
    return {name: _joined([answer[name] for answer in answers], batch) for name in answers[0]}, latencies_ms


def _joined(arrays: list[NDArray[Any]], batch: tuple[int, ...]) -> NDArray[Any]:
    """Return the answers of all runs with the samples on the first axis; ragged ones are an error."""
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise ConverterError(f"its outputs differ in shape from sample to sample: {shapes[0]} and {shapes[-1]}")
    return np.concatenate(arrays) if shapes[0][:1] == batch and batch else np.stack(arrays)


if __name__ == "__main__":
    main()
