"""Files of real data as a folder of arrays: what was recorded, cut to size, and the class of each.

What is left to be done to the numbers (`finished`) is noted, and done when they are read: pictures take a quarter of
the room as whole numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.child import report_step
from edgeferry.converter.errors import RequestError, SamplesError
from edgeferry.converter.preparing import audio, images, series
from edgeferry.converter.preparing.files import PICTURES, SOUND, TABLES, SampleFile, SampleFiles, find_files
from edgeferry.converter.sample_folder import ArrayWriter, Contents, write_contents
from edgeferry.inference.preprocessing import (
    AudioPreprocessing,
    ImagePreprocessing,
    Preprocessing,
    SeriesPreprocessing,
    as_data,
)

__all__ = ["gather"]

Recorded = Iterator[tuple[NDArray[Any], int | None]]  # samples on the first axis, and the class of all of them
Reader = Callable[[SampleFile], Recorded]


def gather(source: Path, declared: Preprocessing, classes: Sequence[str], made: Path, folder: Path) -> None:
    """Write what ``source`` holds into the folder ``made``.

    Args:
        source: A folder of files, or of a folder for each class; or one file.
        declared: How they become inputs.
        classes: Names in the order of the model's output; the sorted names that are found unless given.
        made: Is there, and empty.
        folder: Of the child.

    Raises:
        SamplesError: A file cannot be read, or does not fit the others.
    """
    found = _files(source, declared, classes)
    match declared:
        case ImagePreprocessing():
            read = _pictures(declared)
        case AudioPreprocessing():
            read = _sounds(declared)
        case SeriesPreprocessing():
            found, read = _tables(declared, found, classes)
    arrays = _write(_each(found, read, folder), made)
    write_contents(made, Contents(arrays, found.classes, as_data(declared)))


def _files(source: Path, declared: Preprocessing, classes: Sequence[str]) -> SampleFiles:
    suffixes, what = _KINDS[type(declared)]
    if source.is_dir():
        return find_files(source, suffixes, what=what, classes=classes)
    if source.suffix.lower() not in suffixes:
        raise RequestError(f"{source}: --preprocessing tells of {what}: wanted {', '.join(sorted(suffixes))}")
    return SampleFiles((SampleFile(source, None),), ())


_KINDS = {
    ImagePreprocessing: (PICTURES, "pictures"),
    AudioPreprocessing: (SOUND, "sound"),
    SeriesPreprocessing: (TABLES, "tables"),
}


def _pictures(declared: ImagePreprocessing) -> Reader:
    def read(file: SampleFile) -> Recorded:
        yield images.fitted_picture(file.path, declared)[np.newaxis], file.label

    return read


def _sounds(declared: AudioPreprocessing) -> Reader:
    def read(file: SampleFile) -> Recorded:
        for window in audio.read_windows(file.path, declared):
            yield window, file.label

    return read


def _tables(declared: SeriesPreprocessing, found: SampleFiles, classes: Sequence[str]) -> tuple[SampleFiles, Reader]:
    """Return the files, with the classes that their label column names, and what reads them."""
    if not declared.label:
        return found, lambda file: ((one.values, file.label) for one in series.read_windows(file.path, declared))
    if found.classes:
        raise RequestError(
            f"{found.files[0].path.parent.parent}: has a folder for each class, and preprocessing names the label "
            f"column {declared.label!r}; wanted one of both"
        )
    names = series.label_names([file.path for file in found.files], declared)
    unknown = sorted(set(names) - set(classes)) if classes else []
    if unknown:
        raise RequestError(f"column {declared.label!r} has {unknown[0]!r}, which is none of the model's classes")
    order = list(classes or names) if names else []

    def read(file: SampleFile) -> Recorded:
        for one in series.read_windows(file.path, declared):
            yield one.values, order.index(one.label) if order else int(one.label)

    return replace(found, classes=tuple(order)), read


def _each(found: SampleFiles, read: Reader, folder: Path) -> Recorded:
    """Yield the samples of all files."""
    wanted: tuple[int, ...] | None = None
    for done, file in enumerate(found.files):
        report_step(folder, "reading samples", done=done, total=len(found.files))
        for samples, label in read(file):
            wanted = wanted or samples.shape[1:]
            if samples.shape[1:] != wanted:
                raise SamplesError(
                    f"{file.path}: has shape {list(samples.shape[1:])}, but {found.files[0].path.name} has "
                    f"{list(wanted)}; bring all to one size with resize"
                )
            yield samples, label


def _write(recorded: Recorded, made: Path) -> dict[str, str]:
    """Write all samples, of which there is one at least, and return the names of the files by array."""
    samples, label = next(recorded)
    is_labelled = label is not None
    labels = [label] * len(samples)
    writer = ArrayWriter(made / "x.npy", samples.shape[1:], samples.dtype)
    writer.append(samples)
    for samples, label in recorded:
        writer.append(samples)
        labels += [label] * len(samples)
    writer.close()
    if not is_labelled:
        return {"x": "x.npy"}
    np.save(made / "y.npy", np.asarray(labels, np.int64))
    return {"x": "x.npy", "y": "y.npy"}
