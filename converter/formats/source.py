"""What every format gives the converter: inputs, a way to run the model as it is, and the float ``.tflite``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from edgeferry.converter.errors import Code, RequestError, SourceError
from edgeferry.converter.rows import Rows
from edgeferry.wire.desired import TensorSpec

__all__ = ["Shapes", "Source", "fixed_shapes"]

Shapes = Mapping[str, tuple[int, ...]]


class Source(Protocol):
    """A loaded source model.

    Attributes:
        inputs: What it takes; -1 where a dimension is open, the first one counts the samples.
    """

    inputs: tuple[TensorSpec, ...]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs for a batch of one, by the names that the float ``.tflite`` will have."""
        ...

    def to_tflite(self, shapes: Shapes, folder: Path, *, allows_select_tf: bool = False) -> bytes:
        """Return the float ``.tflite`` with every input fixed to its shape in ``shapes``.

        Args:
            shapes: By input name, the batch of 1 included.
            folder: For files in between.
            allows_select_tf: Whether it may have TensorFlow's own operations where TensorFlow Lite has none.

        Raises:
            SourceError: It does not convert.
        """
        ...


def fixed_shapes(
    inputs: tuple[TensorSpec, ...], samples: Mapping[str, Rows], wanted: Shapes | None = None
) -> dict[str, tuple[int, ...]]:
    """Return each input's shape with a batch of 1 and its open dimensions as they are asked for, or as the samples are.

    Args:
        inputs: Of the model.
        samples: By input name; the first axis counts them.
        wanted: By input name, the batch of 1 included; of a model with one input the name may be empty.

    Raises:
        SourceError: The model was built for another batch than 1.
        RequestError: ``wanted`` names no input, or a shape that the model or the samples do not have.
    """
    for spec in inputs:
        if not spec.shape or spec.shape[0] not in (-1, 1):
            raise SourceError(
                f"input {spec.name!r} has shape {list(spec.shape)}, wanted a first dimension of 1 or an open one, "
                "which counts the samples; save the model with batch size None or 1",
                code=Code.BATCH_FIXED,
            )
    found = {spec.name: (1, *samples[spec.name].shape[1:]) for spec in inputs}
    for name, shape in (wanted or {}).items():
        _check_shape(name or inputs[0].name, shape, inputs, found)
    return found


def _check_shape(
    name: str, shape: tuple[int, ...], inputs: tuple[TensorSpec, ...], found: Mapping[str, tuple[int, ...]]
) -> None:
    spec = next((spec for spec in inputs if spec.name == name), None)
    if spec is None:
        raise RequestError(f"--shape names {name!r}, but the model's inputs are {', '.join(found)}")
    is_possible = len(shape) == len(spec.shape) and all(
        size == want or (want == -1 and size > 0) for size, want in zip(shape, spec.shape, strict=True)
    )
    if not is_possible or shape[0] != 1:
        raise RequestError(
            f"--shape {_spelled(shape)}: input {name!r} has {_spelled(spec.shape)}; wanted a batch of 1, "
            "and another number only where it has -1"
        )
    if shape != found[name]:
        raise RequestError(
            f"--shape {_spelled(shape)}: the samples for input {name!r} have {_spelled(found[name])}; "
            "give samples of the shape that the device will see"
        )


def _spelled(shape: tuple[int, ...]) -> str:
    return ",".join(map(str, shape))
