"""Runs the float model and a variant with all their tensors kept, on a few samples, and compares layer by layer.

`compare_layers` is the parent's half; run as a module, this file is the child. Job: ``float_model``, ``model``,
``samples`` and ``inputs``, those of the float model, and ``is_rescaled``. Tensors are matched by name; what a tool has
renamed or fused is left out. Where the channels of the variant have been rescaled between layers, each is scaled back
before it is compared, by the factor that fits best.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.child import child_main, report_step
from edgeferry.converter.errors import ConverterError
from edgeferry.converter.layer_sums import Factors, Sink, Sums, Tensor
from edgeferry.converter.measure import parse_specs
from edgeferry.converter.outliers import find_outliers
from edgeferry.converter.rows import Rows
from edgeferry.converter.samples import Samples, count_of, encode_sample
from edgeferry.converter.stages import Stages
from edgeferry.inference.model import Model, ModelError
from edgeferry.wire.desired import TensorSpec

__all__ = ["compare_layers", "main"]

_SAMPLES = 4  # a layer's error differs little from sample to sample; all tensors of both models are in memory
_MAX_LAYERS = 400


def compare_layers(
    stages: Stages,
    float_model: Path,
    model: Path,
    samples: Path,
    inputs: Sequence[TensorSpec],
    *,
    is_rescaled: bool,
    folder: Path,
    what: str,
    deadline_s: float,
) -> dict[str, Any]:
    """Return ``layers``, rows in the order of the model, and ``operations``, how many there are of each kind.

    Args:
        stages: Does the work, or has done it before.
        float_model: The float ``.tflite``.
        model: A variant of it.
        samples: Real samples.
        inputs: Of the float model.
        is_rescaled: Whether the variant's channels have been rescaled between layers.
        folder: For the child's files.
        what: What is being compared, for messages.
        deadline_s: How long it may take.

    Raises:
        ConverterError: One of them cannot be run.
    """
    job = {
        "float_model": float_model,
        "model": model,
        "samples": samples,
        "inputs": msgspec.to_builtins(tuple(inputs)),
        "is_rescaled": is_rescaled,
    }
    return stages.run("edgeferry.converter.layers", job, folder=folder, what=what, outputs=[], deadline_s=deadline_s)


def main() -> None:
    """Do the job in the folder named on the command line."""
    child_main(_compare)


def _compare(job: dict[str, Any], folder: Path) -> Mapping[str, object]:
    paths = [Path(job["float_model"]), Path(job["model"])]
    report_step(folder, "loading both models to compare their layers")
    bound = Samples.open(Path(job["samples"])).bind(parse_specs(job["inputs"]))
    try:
        reference, candidate = (Model.load(path, keeps_tensors=True) for path in paths)
        pairs = _pairs(reference, candidate)
        runs = _Runs(reference, candidate, bound, pairs, folder)
        factors = [Factors(found) for _, found in pairs]
        if job["is_rescaled"]:
            runs.feed(factors)
        sums = [Sums(*pair, factor.result()) for pair, factor in zip(pairs, factors, strict=True)]
        runs.feed(sums)
    except ModelError as err:
        raise ConverterError(f"the layers of {paths[1].name} cannot be compared: {err}") from err
    layers = [layer for one in sums if (layer := one.layer()) is not None]
    causes = find_outliers(layers)
    rows = [asdict(layer) | {"cause": causes.get(index, "")} for index, layer in enumerate(layers)]
    return {"layers": rows, "operations": _operations(candidate), "samples": len(runs.chosen)}


class _Runs:
    """Runs both models on the same few samples, and hands each pair of tensors to whoever adds them up."""

    def __init__(
        self,
        reference: Model,
        candidate: Model,
        bound: Mapping[str, Rows],
        pairs: Sequence[tuple[Tensor, Tensor]],
        folder: Path,
    ) -> None:
        self._reference = reference
        self._candidate = candidate
        self._bound = bound
        self._pairs = pairs
        self._folder = folder
        self.chosen = _chosen(count_of(bound))

    def feed(self, sinks: Sequence[Sink]) -> None:
        """Add every sample's tensors to ``sinks``, one for each pair."""
        for done, index in enumerate(self.chosen):
            report_step(self._folder, "comparing layers", done=done, total=len(self.chosen))
            for model in (self._reference, self._candidate):
                model.reset()
                model.run(encode_sample(self._bound, model.inputs, index))
            for (wanted, found), sink in zip(self._pairs, sinks, strict=True):
                sink.add(_tensor(self._reference, wanted), _tensor(self._candidate, found))


def _chosen(count: int) -> list[int]:
    wanted = min(count, _SAMPLES)
    return [n * count // wanted for n in range(wanted)]


def _pairs(reference: Model, candidate: Model) -> list[tuple[Tensor, Tensor]]:
    found = {tensor.name: tensor for tensor in _outputs(candidate)}
    pairs = [(wanted, found[wanted.name]) for wanted in _outputs(reference) if wanted.name in found]
    return pairs[:_MAX_LAYERS]


def _outputs(model: Model) -> Iterator[Tensor]:
    """Yield what each operation makes, in order."""
    tensors = {details["index"]: details for details in model.interpreter.get_tensor_details()}
    for operation in model.interpreter._get_ops_details():  # noqa: SLF001 - the runtime has no public way to its operators
        for index in operation["outputs"]:
            details = tensors.get(int(index))
            if details is not None and np.dtype(details["dtype"]).kind in "fiu":
                quantization = details["quantization_parameters"]
                scales, zero_points = quantization["scales"], quantization["zero_points"]
                yield Tensor(details["name"], operation["op_name"], int(index), scales, zero_points)


def _operations(model: Model) -> dict[str, int]:
    names = [operation["op_name"] for operation in model.interpreter._get_ops_details()]  # noqa: SLF001 - see above
    return dict(Counter(names).most_common())


def _tensor(model: Model, tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = model.interpreter.get_tensor(tensor.index)
    return array


if __name__ == "__main__":
    main()
