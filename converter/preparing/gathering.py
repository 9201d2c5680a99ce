"""Files of real data as a folder of arrays: what was recorded, cut to size, and the class of each.

What is left to be done to the numbers (`finished`) is noted, and done when they are read: pictures take a quarter of
the room as whole numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.child import report_step
from edgeferry.converter.errors import RequestError, SamplesError
from edgeferry.converter.preparing import images
from edgeferry.converter.preparing.files import SampleFiles, find_files
from edgeferry.converter.sample_folder import ArrayWriter, Contents, write_contents
from edgeferry.inference.preprocessing import ImagePreprocessing, Preprocessing, as_data

__all__ = ["gather"]

Recorded = Iterator[tuple[NDArray[Any], int | None]]  # some samples of one class, on the first axis


def gather(source: Path, declared: Preprocessing, classes: Sequence[str], made: Path, folder: Path) -> None:
    """Write what ``source`` holds into the folder ``made``.

    Args:
        source: A folder of files, or of a folder for each class.
        declared: How they become inputs.
        classes: Names in the order of the model's output; the sorted names of folders unless given.
        made: Is there, and empty.
        folder: Of the child.

    Raises:
        SamplesError: A file cannot be read, or does not fit the others.
    """
    match declared:
        case ImagePreprocessing():
            found = find_files(source, images.SUFFIXES, what="pictures", classes=classes)
            recorded = _each(found, folder, lambda path: images.fitted_picture(path, declared)[np.newaxis])
        case _:
            raise RequestError(f"{source}: pictures alone are read")
    arrays = _write(recorded, found, made)
    write_contents(made, Contents(arrays, found.classes, as_data(declared)))


def _each(found: SampleFiles, folder: Path, read: Callable[[Path], NDArray[Any]]) -> Recorded:
    """Yield the samples of each file."""
    first: NDArray[Any] | None = None
    for done, file in enumerate(found.files):
        report_step(folder, "reading samples", done=done, total=len(found.files))
        samples = read(file.path)
        first = samples if first is None else first
        if samples.shape[1:] != first.shape[1:]:
            raise SamplesError(
                f"{file.path}: has shape {list(samples.shape[1:])}, but {found.files[0].path.name} has "
                f"{list(first.shape[1:])}; bring all to one size with resize"
            )
        yield samples, file.label


def _write(recorded: Recorded, found: SampleFiles, made: Path) -> dict[str, str]:
    writer: ArrayWriter | None = None
    labels: list[int] = []
    for samples, label in recorded:
        if writer is None:
            writer = ArrayWriter(made / "x.npy", samples.shape[1:], samples.dtype)
        writer.append(samples)
        if label is not None:
            labels += [label] * len(samples)
    if writer is None:
        raise SamplesError(f"{found.files[0].path.parent}: holds no samples")
    writer.close()
    if not found.classes:
        return {"x": "x.npy"}
    np.save(made / "y.npy", np.asarray(labels, np.int64))
    return {"x": "x.npy", "y": "y.npy"}
