"""Which formats there are, and which one a path holds: told by name and first bytes, without loading anything."""

import zipfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from edgeferry.converter.errors import RequestError, SourceError

__all__ = ["FORMATS", "Format", "FormatName", "detect"]

_HEAD_BYTES = 16
_KERAS_CONFIG = "config.json"
_NAMED_MEMBERS = 3


class FormatName(StrEnum):
    """What a source model is stored as."""

    KERAS = "keras"
    HDF5 = "h5"
    SAVED_MODEL = "saved_model"
    TFLITE = "tflite"


@dataclass(frozen=True, slots=True)
class Format:
    """A format.

    Attributes:
        title: What people call it.
        suffixes: Of its files; none for folders.
        magic: Bytes that its files have at ``magic_at``.
        module: The module with its ``load(path, signature) -> Source``; imported in the child process.
    """

    name: FormatName
    title: str
    suffixes: tuple[str, ...]
    magic: bytes
    magic_at: int
    module: str


_PACKAGE = "edgeferry.converter.formats"

FORMATS = (
    Format(FormatName.KERAS, "Keras 3 model", (".keras",), b"PK\x03\x04", 0, f"{_PACKAGE}.keras_model"),
    Format(FormatName.HDF5, "Keras HDF5 model", (".h5", ".hdf5"), b"\x89HDF\r\n\x1a\n", 0, f"{_PACKAGE}.keras_model"),
    Format(FormatName.SAVED_MODEL, "SavedModel", (), b"", 0, f"{_PACKAGE}.saved_model"),
    Format(FormatName.TFLITE, "TensorFlow Lite model", (".tflite", ".lite"), b"TFL3", 4, f"{_PACKAGE}.tflite"),
)
_BY_SUFFIX = {suffix: known for known in FORMATS for suffix in known.suffixes}
_SAVED_MODEL = next(known for known in FORMATS if known.name is FormatName.SAVED_MODEL)


def detect(path: Path) -> Format:
    """Return the format of the model at ``path``.

    Raises:
        RequestError: Nothing is there.
        SourceError: Nothing that is known.
    """
    try:
        path.stat()
    except OSError as err:
        raise RequestError(f"{path}: {err.strerror}; wanted a model file or a SavedModel") from err
    if path.is_dir():
        return _detect_folder(path)
    known = _BY_SUFFIX.get(path.suffix.lower())
    if known is None:
        wanted = ", ".join(_BY_SUFFIX)
        raise SourceError(f"{path}: {path.suffix or 'no'} suffix is not a known model; wanted {wanted} or a SavedModel")
    head = _head(path)
    if head[known.magic_at :][: len(known.magic)] != known.magic:
        raise SourceError(f"{path}: is not a {known.title}: it begins with {head!r}; it may be cut off or misnamed")
    if known.name is FormatName.KERAS:
        _check_keras(path)
    return known


def _detect_folder(path: Path) -> Format:
    if (path / "saved_model.pb").is_file():
        return _SAVED_MODEL
    raise SourceError(f"{path}: is a folder without saved_model.pb; wanted a SavedModel, or the path of a model file")


def _check_keras(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as err:
        raise SourceError(
            f"{path}: is a damaged Keras 3 model, probably cut off ({err}); copy or save it anew"
        ) from err
    if _KERAS_CONFIG not in members:
        found = ", ".join(members[:_NAMED_MEMBERS]) or "nothing"
        raise SourceError(f"{path}: is a zip file with {found}; wanted a Keras 3 model, which has {_KERAS_CONFIG}")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as err:
        raise SourceError(f"{path}: cannot be read: {err.strerror}") from err
