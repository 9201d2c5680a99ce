"""A folder of ``.npy`` files as samples: what a user has laid there, or what `preparing` has made of something else.

A user's files are called after their arrays: ``x.npy`` and ``y.npy``, or one per input of the model. What was prepared
has `CONTENTS` beside it, because the name of an input may hold what the name of a file may not.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.errors import RequestError, SamplesError
from edgeferry.converter.rows import Place, npy_place

__all__ = ["CONTENTS", "ArrayWriter", "Contents", "folder_places", "holds_arrays", "read_contents", "write_contents"]

CONTENTS = "samples.json"
_MAX_CONTENTS_BYTES = 1024 * 1024


class Contents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands in a prepared folder.

    Attributes:
        arrays: Names of files by names of arrays.
        classes: Names of the classes that ``y`` counts, where they are known.
        preprocessing: What is still to be done to ``x`` when it is read, in the words of `inference.preprocessing`.
    """

    arrays: dict[str, str]
    classes: tuple[str, ...] = ()
    preprocessing: dict[str, Any] = {}


def folder_places(folder: Path) -> dict[str, Place]:
    """Return where the arrays in ``folder`` lie, by name.

    Raises:
        RequestError: There is none.
        SamplesError: One is damaged, or no array.
        OSError: A file cannot be read.
    """
    contents = read_contents(folder)
    if contents is not None:
        return {name: npy_place(folder / file) for name, file in contents.arrays.items()}
    files = sorted(path for path in folder.glob("*.npy") if not path.name.startswith("."))
    if not files:
        raise RequestError(f"{folder}: is a folder without .npy files; wanted x.npy, and y.npy where there are labels")
    return {file.stem: npy_place(file) for file in files}


def holds_arrays(folder: Path) -> bool:
    """Return whether there are arrays in ``folder``."""
    return (folder / CONTENTS).is_file() or any(not path.name.startswith(".") for path in folder.glob("*.npy"))


def read_contents(folder: Path) -> Contents | None:
    """Return what stands in a prepared folder; None where ``folder`` is none.

    Raises:
        SamplesError: It is damaged.
    """
    try:
        with (folder / CONTENTS).open("rb") as file:
            contents = msgspec.json.decode(file.read(_MAX_CONTENTS_BYTES), type=Contents)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise SamplesError(f"{folder / CONTENTS}: cannot be read: {err}; prepare the samples anew") from err
    if any(Path(name).name != name for name in contents.arrays.values()):
        raise SamplesError(f"{folder / CONTENTS}: names a file outside of its folder")
    return contents


def write_contents(folder: Path, contents: Contents) -> None:
    """Say what stands in a prepared folder; it is whole from now on."""
    (folder / CONTENTS).write_bytes(msgspec.json.encode(contents))


class ArrayWriter:
    """Writes a ``.npy`` sample by sample, as many as come.

    numpy leaves room in a header for the first axis to grow (numpy.lib.format, GROWTH_AXIS_MAX_DIGITS), so the number
    of samples is written at the end, in place.

    Args:
        path: Of the file.
        shape: Of one sample.
        dtype: Of its numbers.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype
        self.count = 0
        self._file = path.open("wb")
        self._header()
        self._header_bytes = self._file.tell()

    @property
    def row_bytes(self) -> int:
        """Return the size of one sample."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def append(self, rows: NDArray[Any]) -> None:
        """Write some samples of the shape and type that were said."""
        if rows.shape[1:] != self.shape or rows.dtype != self.dtype:
            raise ValueError(f"got {rows.dtype}{list(rows.shape)}, wanted {self.dtype} of {list(self.shape)} each")
        self._file.write(np.ascontiguousarray(rows).data)
        self.count += len(rows)

    def close(self) -> None:
        """Write how many there were."""
        self._file.seek(0)
        self._header()
        if self._file.tell() != self._header_bytes:
            raise ValueError("numpy's header has grown; this numpy is not supported")
        self._file.close()

    def _header(self) -> None:
        facts: Mapping[str, Any] = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.count, *self.shape),
        }
        np.lib.format.write_array_header_1_0(self._file, dict(facts))
