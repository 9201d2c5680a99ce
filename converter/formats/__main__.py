"""The child process that turns a source model into the float ``.tflite``, and says what the source itself answers.

Job: ``format``, ``model``, ``samples``, ``calibration``, ``metric`` and ``signature`` (or null), ``shapes`` by input,
``allows_select_tf`` and ``compared``. It leaves ``float.tflite``, and in ``source`` the source model's outputs for the
first ``compared`` samples. Its result: the ``inputs`` of the float model.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.arrays import write_arrays
from edgeferry.converter.child import child_main, report_step
from edgeferry.converter.errors import Code, SamplesError, SourceError
from edgeferry.converter.formats.registry import FORMATS
from edgeferry.converter.formats.source import Source, fixed_shapes
from edgeferry.converter.formats.unrunnable import unrunnable
from edgeferry.converter.metrics import Metric, check_labels, default_metric
from edgeferry.converter.rows import Rows
from edgeferry.converter.samples import Samples, count_of
from edgeferry.inference.model import Model, ModelError


def main() -> None:
    """Do the job in the folder named on the command line."""
    child_main(_convert)


def _convert(job: dict[str, Any], folder: Path) -> Mapping[str, object]:
    path = Path(job["model"])
    report_step(folder, f"loading {path.name}")
    module = importlib.import_module(next(known.module for known in FORMATS if known.name == job["format"]))
    source: Source = module.load(path, job["signature"])
    loaded = Samples.open(Path(job["samples"]))
    samples = loaded.bind(source.inputs)
    if job["calibration"]:  # said now, not after the conversion
        Samples.open(Path(job["calibration"])).bind(source.inputs)
    shapes = fixed_shapes(source.inputs, samples, {name: tuple(shape) for name, shape in job["shapes"].items()})
    report_step(folder, f"running {path.name} as it is")
    outputs = _run(source, samples, job["compared"])
    metric = Metric(job["metric"]) if job["metric"] else default_metric(outputs, loaded.labels)
    try:
        check_labels(metric, outputs, loaded.labels)
    except SamplesError as err:
        raise SamplesError(f"{loaded.path}: {err}") from err
    write_arrays(folder / "source", outputs)
    report_step(folder, f"converting {path.name} to TensorFlow Lite")
    model = folder / "float.tflite"
    model.write_bytes(source.to_tflite(shapes, folder, allows_select_tf=job["allows_select_tf"]))
    try:
        return {"inputs": msgspec.to_builtins(Model.load(model).inputs)}
    except ModelError as err:
        raise unrunnable(path.name, model, err, code=Code.RESULT_UNUSABLE) from err


def _run(source: Source, samples: Mapping[str, Rows], compared: int) -> dict[str, NDArray[Any]]:
    count = min(compared, count_of(samples))
    runs = [source.run({name: array[i : i + 1] for name, array in samples.items()}) for i in range(count)]
    for name, output in runs[0].items():
        if output.dtype.kind not in "fiub":
            sentence = f"output {name!r} holds {output.dtype}; only numbers can be converted"
            raise SourceError(sentence, code=Code.NOT_NUMBERS)
    outputs = {name: np.stack([run[name] for run in runs]) for name in runs[0]}
    _check_finite(outputs)
    return outputs


def _check_finite(outputs: Mapping[str, NDArray[Any]]) -> None:
    """Do nothing when the source answers numbers: a conversion of anything else cannot be judged.

    Raises:
        SourceError: An output is NaN or infinite.
    """
    for name, output in outputs.items():
        is_bad = ~np.isfinite(output).reshape(len(output), -1).all(axis=1)
        if is_bad.any():
            sentence = (
                f"output {name!r} of the source itself is NaN or infinite for {int(is_bad.sum())} of {len(output)} "
                f"samples, first for sample {int(is_bad.argmax())}; find the layer that makes it so before converting"
            )
            raise SourceError(sentence, code=Code.NOT_FINITE)


if __name__ == "__main__":
    main()
