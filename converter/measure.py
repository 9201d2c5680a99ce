"""Runs a ``.tflite`` on samples in a process of its own: its outputs, its memory, its time, and its self-test.

`measure` is the parent's half; run as a module, this file is the child. Job: ``model``, ``samples``, and ``inputs``,
those of the float model, to which the samples belong. It leaves the outputs as real numbers in ``outputs``, and
``selftest.npz``.

Memory is the growth of the resident set, at its peak, from before the model is loaded until it has run a few samples:
what the model adds to a process that has the runtime and numpy already. Latency is this host's, not the device's.
"""

import resource
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.arrays import create_arrays, read_arrays
from edgeferry.converter.child import child_main, report_step
from edgeferry.converter.errors import ConverterError
from edgeferry.converter.inspection.tflite_facts import Fusion, OperatorUse
from edgeferry.converter.rows import Rows
from edgeferry.converter.samples import Samples, count_of, encode_sample
from edgeferry.converter.stages import Stages
from edgeferry.inference.model import Model, ModelError
from edgeferry.inference.quantization import dequantize, is_quantized
from edgeferry.inference.selftest import SelfTest, record_selftest
from edgeferry.wire.desired import TensorSpec

__all__ = ["Measurement", "main", "measure", "parse_specs"]

MAX_SELFTEST_SAMPLES = 8
MAX_SELFTEST_BYTES = 1024 * 1024  # it travels to every device beside the model

_MEMORY_SAMPLES = 4


@dataclass(frozen=True, slots=True)
class Measurement:
    """What running a model showed.

    Attributes:
        inputs: Of the model.
        outputs: Of the model.
        results: Outputs by name as real numbers; samples on the first axis, then the tensor's shape. Memory-mapped.
        memory_bytes: Peak growth of the process by loading and running it.
        latency_ms: Median time of one inference on this host, one thread.
        p95_ms: 95 of 100 inferences took no longer.
        operations: That it consists of.
        fusion: What was fused into one operation, and what was not.
        selftest: The file with the golden samples.
        selftest_samples: Their number.
        peak: Largest magnitude among the golden outputs, in real units.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    results: Mapping[str, NDArray[Any]]
    memory_bytes: int
    latency_ms: float
    p95_ms: float
    operations: tuple[OperatorUse, ...]
    fusion: Fusion
    selftest: Path
    selftest_samples: int
    peak: float


def measure(
    stages: Stages,
    model: Path,
    samples: Path,
    inputs: Sequence[TensorSpec],
    *,
    folder: Path,
    what: str,
    deadline_s: float,
) -> Measurement:
    """Return what running ``model`` on all of ``samples`` shows.

    Args:
        stages: Does the work, or has done it before.
        model: A ``.tflite`` file.
        samples: Real samples.
        inputs: Of the float model, which the samples fit; ``model`` may be quantized.
        folder: For the child's files; the results stay there.
        what: What is being measured, for messages.
        deadline_s: How long it may take.

    Raises:
        ConverterError: The samples do not fit, or the model cannot be run.
    """
    job = {"model": model, "samples": samples, "inputs": msgspec.to_builtins(tuple(inputs))}
    result = stages.run(
        "edgeferry.converter.measure",
        job,
        folder=folder,
        what=what,
        outputs=["outputs", "selftest.npz"],
        deadline_s=deadline_s,
    )
    return Measurement(
        inputs=parse_specs(result["inputs"]),
        outputs=parse_specs(result["outputs"]),
        results=read_arrays(folder / "outputs"),
        memory_bytes=result["memory_bytes"],
        latency_ms=result["latency_ms"],
        p95_ms=result["p95_ms"],
        operations=msgspec.convert(result["operations"], tuple[OperatorUse, ...]),
        fusion=msgspec.convert(result["fusion"], Fusion),
        selftest=folder / "selftest.npz",
        selftest_samples=result["selftest_samples"],
        peak=result["peak"],
    )


def main() -> None:
    """Do the job in the folder named on the command line."""
    child_main(_measure)


def _measure(job: dict[str, Any], folder: Path) -> Mapping[str, object]:
    from edgeferry.converter.inspection.tflite_file import read_tflite  # noqa: PLC0415 - not for the parent

    path = Path(job["model"])
    report_step(folder, f"loading {path.name}")
    bound = Samples.open(Path(job["samples"])).bind(parse_specs(job["inputs"]))
    report_step(folder, f"running {path.name}")
    try:
        model, memory_bytes = _measured_load(path, bound)
        latencies_ms = _run_all(model, bound, folder, f"running {path.name}")
        selftest = record_selftest(model, _selftest_inputs(model, bound))
    except ModelError as err:
        raise ConverterError(f"{path.name} cannot be run: {err}") from err
    selftest.save(folder / "selftest.npz")
    facts = read_tflite(path)
    return {
        "inputs": msgspec.to_builtins(model.inputs),
        "outputs": msgspec.to_builtins(model.outputs),
        "memory_bytes": memory_bytes,
        "latency_ms": statistics.median(latencies_ms),
        "p95_ms": float(np.quantile(latencies_ms, 0.95)),
        "operations": msgspec.to_builtins(facts.uses),
        "fusion": msgspec.to_builtins(facts.fusion),
        "selftest_samples": selftest.samples,
        "peak": _peak(selftest, model.outputs),
    }


def parse_specs(found: object) -> tuple[TensorSpec, ...]:
    """Return the tensors that a job or a result names."""
    return msgspec.convert(found, tuple[TensorSpec, ...])


def _measured_load(path: Path, bound: Mapping[str, Rows]) -> tuple[Model, int]:
    import ai_edge_litert.interpreter  # noqa: F401, PLC0415 - the runtime's own memory is not the model's

    before = _start_of_peak_bytes()
    model = Model.load(path)
    for index in range(min(_MEMORY_SAMPLES, count_of(bound))):
        _run_one(model, bound, index)
    return model, max(0, _peak_bytes() - before)


def _start_of_peak_bytes() -> int:
    """Return the resident size now, having told Linux to forget the greatest one so far (proc(5), clear_refs)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return _status_bytes("VmRSS")


def _peak_bytes() -> int:
    return _status_bytes("VmHWM")


def _status_bytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise ConverterError(f"/proc/self/status has no {key}; memory can be measured on Linux only")


def _run_one(model: Model, bound: Mapping[str, Rows], index: int) -> tuple[dict[str, NDArray[Any]], float]:
    """Return the outputs of one sample, and the milliseconds that they took."""
    inputs = encode_sample(bound, model.inputs, index)
    model.reset()
    begun = time.perf_counter()
    outputs = model.run(inputs)
    return outputs, (time.perf_counter() - begun) * 1000


def _run_all(model: Model, bound: Mapping[str, Rows], folder: Path, step: str) -> list[float]:
    count = count_of(bound)
    first, _ = _run_one(model, bound, 0)
    shapes = {name: ((count, *array.shape), np.float32) for name, array in first.items()}
    results = create_arrays(folder / "outputs", shapes)
    latencies_ms = []
    for index in range(count):
        report_step(folder, step, done=index, total=count)
        outputs, latency_ms = _run_one(model, bound, index)
        latencies_ms.append(latency_ms)
        for spec in model.outputs:
            results[spec.name][index] = _real(outputs[spec.name], spec)
    return latencies_ms


def _real(output: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    return dequantize(output, spec) if is_quantized(spec) else output


def _selftest_inputs(model: Model, bound: Mapping[str, Rows]) -> dict[str, NDArray[Any]]:
    """Return a few samples from all over the file, so that more than one class is likely among them."""
    one = encode_sample(bound, model.inputs, 0)
    affordable = MAX_SELFTEST_BYTES // max(1, sum(array.nbytes for array in one.values()))
    count = count_of(bound)
    wanted = max(1, min(MAX_SELFTEST_SAMPLES, affordable, count))
    chosen = [encode_sample(bound, model.inputs, n * count // wanted) for n in range(wanted)]
    return {spec.name: np.stack([sample[spec.name] for sample in chosen]) for spec in model.inputs}


def _peak(selftest: SelfTest, outputs: Sequence[TensorSpec]) -> float:
    return max(float(np.abs(_real(selftest.outputs[spec.name], spec)).max(initial=0)) for spec in outputs)


if __name__ == "__main__":
    main()
