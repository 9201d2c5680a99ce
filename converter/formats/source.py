"""What every format gives the converter: inputs, a way to run the model as it is, and the float ``.tflite``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from edgeferry.converter.errors import SourceError
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

    def to_tflite(self, shapes: Shapes, folder: Path) -> bytes:
        """Return the float ``.tflite`` with every input fixed to its shape in ``shapes``.

        Args:
            shapes: By input name, the batch of 1 included.
            folder: For files in between.

        Raises:
            SourceError: It does not convert.
        """
        ...


def fixed_shapes(inputs: tuple[TensorSpec, ...], samples: Mapping[str, NDArray[Any]]) -> dict[str, tuple[int, ...]]:
    """Return each input's shape with a batch of 1 and its open dimensions as the samples have them.

    Raises:
        SourceError: The model was built for another batch than 1.
    """
    for spec in inputs:
        if not spec.shape or spec.shape[0] not in (-1, 1):
            raise SourceError(
                f"input {spec.name!r} has shape {list(spec.shape)}, wanted a first dimension of 1 or an open one, "
                "which counts the samples; save the model with batch size None or 1"
            )
    return {spec.name: (1, *samples[spec.name].shape[1:]) for spec in inputs}
