"""Samples that ``edgeferry predict`` is given as anything else than arrays: prepared in its child process."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.errors import RequestError
from edgeferry.converter.preparing.function import is_function, write_yielded
from edgeferry.converter.preparing.gathering import gather
from edgeferry.converter.preparing.source import are_arrays
from edgeferry.converter.rows import Rows, blocks
from edgeferry.converter.sample_folder import ArrayWriter
from edgeferry.converter.samples import Samples
from edgeferry.inference.preprocessing import Preprocessing

__all__ = ["is_prepared_first", "prepared_arrays"]


def is_prepared_first(source: Path) -> bool:
    """Return whether ``source`` is something else than arrays."""
    return is_function(source) or (source.exists() and not are_arrays(source))


def prepared_arrays(
    source: Path, declared: Preprocessing | None, classes: Sequence[str], folder: Path
) -> dict[str, NDArray[Any]]:
    """Return the samples of ``source`` by name, memory-mapped, and their labels as ``y`` where it tells them.

    Args:
        source: A folder or file of real data, or the name of a function.
        declared: How data becomes inputs; None where nobody says.
        classes: Of the model, in its order, where they are known.
        folder: Of the child.

    Raises:
        RequestError: Nobody says how data becomes inputs.
        SamplesError: It cannot be read.
    """
    made = folder / "samples"
    made.mkdir()
    if is_function(source):
        write_yielded(str(source), made, folder)
    elif declared is None:
        raise RequestError(
            f"{source}: holds no arrays, and the model does not say how data becomes its input; "
            "say it with --preprocessing FILE.yaml"
        )
    else:
        gather(source, declared, classes, made, folder)
    samples = Samples.open(made)
    arrays = {name: _mapped(rows, folder / f"input-{at}.npy") for at, (name, rows) in enumerate(samples.arrays.items())}
    return arrays if samples.labels is None else arrays | {"y": samples.labels}


def _mapped(rows: Rows, path: Path) -> NDArray[Any]:
    writer = ArrayWriter(path, rows.shape[1:], rows.dtype)
    for _, block in blocks(rows):
        writer.append(block)
    writer.close()
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
