"""The files of a folder of samples, in order, and what each belongs to.

A folder of folders has a class for each of them, as Keras and torchvision have it: the sorted names, counted from 0,
unless a list of names says otherwise. A flat folder has no labels. Nothing is left out in silence but hidden files.
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeferry.converter.errors import RequestError, SamplesError

__all__ = ["PICTURES", "SOUND", "TABLES", "SampleFile", "SampleFiles", "find_files"]

PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
SOUND = frozenset({".wav", ".wave"})
TABLES = frozenset({".csv", ".tsv", ".txt"})


@dataclass(frozen=True, slots=True)
class SampleFile:
    """A file, and the class that its folder stands for; None in a flat folder."""

    path: Path
    label: int | None


@dataclass(frozen=True, slots=True)
class SampleFiles:
    """The files of a folder in order.

    Attributes:
        files: One at least.
        classes: Names by class; empty for a flat folder.
    """

    files: tuple[SampleFile, ...]
    classes: tuple[str, ...]


def find_files(folder: Path, suffixes: Collection[str], *, what: str, classes: Sequence[str] = ()) -> SampleFiles:
    """Return the files of ``folder``.

    Args:
        folder: Of files, or of a folder for each class.
        suffixes: That such files have, in lower case.
        what: They are, for messages: "pictures".
        classes: Names of the classes in the order of the model's output; the sorted names of folders unless given.

    Raises:
        SamplesError: There is none, a class has none, or there is what cannot be a sample.
    """
    flat, folders = _listed(folder)
    here = [path for path in flat if path.suffix.lower() in suffixes]
    if not folders:
        _check_all(flat, here, suffixes)
        if not here:
            raise SamplesError(f"{folder}: holds no {what} ({_spelled(suffixes)}), and no folders of them")
        return SampleFiles(tuple(SampleFile(path, None) for path in here), ())
    if here:
        raise SamplesError(
            f"{folder}: has {what} beside folders, {here[0].name!r} beside {folders[0].name!r}; "
            "wanted either, or all of them in a folder for their class"
        )
    names = tuple(one.name for one in folders)
    order = _order(folder, names, classes)
    files = [SampleFile(path, order.index(one.name)) for one in folders for path in _of_class(one, suffixes, what)]
    return SampleFiles(tuple(files), order)


def _order(folder: Path, names: tuple[str, ...], classes: Sequence[str]) -> tuple[str, ...]:
    unknown = sorted(set(names) - set(classes)) if classes else []
    if unknown:
        raise RequestError(f"{folder}: the folder {unknown[0]!r} is none of the model's {len(classes)} classes")
    return tuple(classes) or names


def _of_class(folder: Path, suffixes: Collection[str], what: str) -> list[Path]:
    files, inner = _listed(folder)
    found = [path for path in files if path.suffix.lower() in suffixes]
    _check_all(files, found, suffixes)
    found += [path for one in inner for path in _of_class(one, suffixes, what)]
    if not found:
        raise SamplesError(
            f"{folder}: this class holds no {what} ({_spelled(suffixes)}); add some, or remove its folder"
        )
    return found


def _listed(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files and the folders in ``folder``, sorted, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((one for one in entries if not one.name.startswith(".")), key=lambda one: one.name)
            links = [one.name for one in found if one.is_symlink() and one.is_dir()]
            files = [Path(one.path) for one in found if not one.is_dir()]
            folders = [Path(one.path) for one in found if one.is_dir()]
    except OSError as err:
        raise RequestError(f"{err.filename}: {err.strerror}") from err
    if links:
        raise SamplesError(f"{folder}: {links[0]!r} is a link to a folder; put the folder itself there")
    return files, folders


def _check_all(files: Sequence[Path], taken: Sequence[Path], suffixes: Collection[str]) -> None:
    other = next((path for path in files if path not in taken), None) if len(taken) < len(files) else None
    if other is not None:
        raise SamplesError(f"{other}: is not one of {_spelled(suffixes)}; convert it, move it away, or hide it (.NAME)")


def _spelled(suffixes: Collection[str]) -> str:
    return ", ".join(sorted(suffixes))
