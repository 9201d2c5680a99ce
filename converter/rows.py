"""Arrays of samples that stay on disk: a few rows are read when they are wanted, so their number costs no memory.

Reads by offset (``pread``) and not by mapping: pages that are mapped count as the process's memory once they are
touched. A ``.npz`` whose members are stored uncompressed, as `numpy.savez` writes them, is read where it lies.

Format: numpy.lib.format, versions 1 and 2; the zip's own headers are those of PKWARE's APPNOTE, 4.3.7.
"""

import io
import os
import struct
import tokenize
import weakref
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.errors import SamplesError

__all__ = ["REMEDY", "Computed", "Place", "Rows", "Stored", "blocks", "check_members", "npy_place", "npz_places"]

REMEDY = "write one with numpy.savez(path, x=samples, y=labels)"

_MAX_HEADER_BYTES = 64 * 1024  # numpy reads headers of 10,000 characters at most
_NO_HEADER = (
    KeyError,
    ValueError,
    TypeError,
    OverflowError,
    SyntaxError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,
)
_BLOCK_BYTES = 8 * 1024 * 1024
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others' decoders have no bound on what they unpack to
_HEADERS: Mapping[tuple[int, int], Callable[[Any], Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Rows(Protocol):
    """An array, in memory or not: the first axis counts the samples, and slices of it can be taken."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return its shape."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of its numbers."""
        ...

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        """Return some samples, one after the other."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where an array lies in a file.

    Attributes:
        path: Of the file.
        offset: Of the first number.
        shape: The first axis counts the samples.
        dtype: Of its numbers.
        is_by_columns: Whether it lies in Fortran's order, in which a sample's numbers are far apart.
        crc32: Of the bytes from ``start`` to the end of the array; None where nothing tells it.
        start: Where the ``.npy`` begins in the file.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_by_columns: bool = False
    crc32: int | None = None
    start: int = 0

    @property
    def size_bytes(self) -> int:
        """Return how many bytes its numbers take."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


class Stored:
    """Rows on disk. The file stays open, so that another one in its place changes nothing."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._file = os.open(place.path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._file)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return its shape."""
        return self.place.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of its numbers."""
        return self.place.dtype

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.place.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Return some samples, read now.

        Raises:
            SamplesError: The file has become shorter, or cannot be read any more.
        """
        first, last, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"rows are read one after the other, not every {step}th")
        count, row_bytes = max(0, last - first), self.place.size_bytes // max(1, len(self))
        data = self.read(self.place.offset + first * row_bytes, count * row_bytes)
        return np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])

    def read(self, offset: int, size: int) -> bytearray:
        """Return ``size`` bytes of the file from ``offset``.

        Raises:
            SamplesError: There are not so many.
        """
        data = bytearray(size)
        view, done = memoryview(data), 0
        while done < size:
            try:
                got = os.preadv(self._file, [view[done:]], offset + done)
            except OSError as err:
                raise SamplesError(f"{self.place.path}: cannot be read: {err.strerror}") from err
            if not got:
                raise SamplesError(f"{self.place.path}: ends early; it was changed while it was read, or is cut off")
            done += got
        return data


class Computed:
    """Rows that are made of others when they are wanted.

    Attributes:
        source: What they are made of.
    """

    def __init__(
        self, rows: Rows, compute: Callable[[NDArray[Any]], NDArray[Any]], shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self.source = rows
        self._compute = compute
        self.shape = shape
        self.dtype = dtype

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.source)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Return some samples."""
        return self._compute(self.source[rows])


def blocks(rows: Rows) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield all rows, a few megabytes at a time, each block with the number of its first row."""
    row_bytes = int(np.prod(rows.shape[1:], dtype=object)) * rows.dtype.itemsize
    step = max(1, _BLOCK_BYTES // max(1, row_bytes))
    for first in range(0, len(rows), step):
        yield first, rows[first : first + step]


def npy_place(path: Path) -> Place:
    """Return where the array in a ``.npy`` file lies.

    Raises:
        SamplesError: It is no such file, is cut off, or holds Python objects.
        OSError: It cannot be opened.
    """
    with path.open("rb") as file:
        return _place(path, file.read(_MAX_HEADER_BYTES), start=0, size=os.fstat(file.fileno()).st_size)


def npz_places(path: Path) -> dict[str, Place]:
    """Return where each array of a ``.npz`` file lies; empty where a member is compressed, and has no place.

    Raises:
        SamplesError: It is no such file, is damaged, or holds something else than arrays.
        OSError: It cannot be opened.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as err:
        raise SamplesError(f"{path}: is damaged: {err}") from err
    check_members(path, members)
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        return {}
    with path.open("rb") as file:
        return {member.filename.removesuffix(".npy"): _member_place(path, file, member) for member in members}


def check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Do nothing when all members can be arrays.

    Raises:
        SamplesError: They are something else.
    """
    others = sorted(member.filename for member in members if not member.filename.endswith(".npy"))
    if others:
        names = ", ".join(map(repr, others[:3])) + (", ..." if len(others) > 3 else "")
        raise SamplesError(f"{path}: is no .npz file but a zip file with {names}; {REMEDY}")
    if any(member.flag_bits & _ENCRYPTED for member in members):
        raise SamplesError(f"{path}: is damaged: a member is encrypted; {REMEDY}")
    if any(member.compress_type not in _METHODS for member in members):
        raise SamplesError(f"{path}: is damaged, or compressed in a way that numpy does not write; {REMEDY}")


def _member_place(path: Path, file: io.BufferedReader, member: zipfile.ZipInfo) -> Place:
    end = os.fstat(file.fileno()).st_size
    file.seek(member.header_offset if 0 <= member.header_offset < end else end)
    header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\x03\x04"):
        raise SamplesError(f"{path}: is damaged: {member.filename!r} is not where the file says")
    _, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
    start = member.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
    if start + member.file_size > end:
        raise SamplesError(f"{path}: is damaged: {member.filename!r} ends behind the end of the file")
    file.seek(start)
    head = file.read(min(_MAX_HEADER_BYTES, member.file_size))
    return _place(path, head, start=start, size=member.file_size, crc32=member.CRC)


def _place(path: Path, head: bytes, *, start: int, size: int, crc32: int | None = None) -> Place:
    """Return where the numbers of the ``.npy`` lie that begins with ``head`` and is ``size`` bytes long."""
    buffer = io.BytesIO(head)
    try:
        shape, is_by_columns, dtype = _HEADERS[np.lib.format.read_magic(buffer)](buffer)
    except _NO_HEADER as err:
        reason = " ".join(str(err).split())[:120]
        raise SamplesError(f"{path}: is damaged, or no array as numpy writes it: {reason}; {REMEDY}") from err
    if dtype.hasobject:
        raise SamplesError(f"{path}: holds Python objects; wanted arrays of numbers of equal shapes")
    found = Place(path, start + buffer.tell(), shape, dtype, is_by_columns and len(shape) > 1, crc32, start)
    if min(shape, default=0) < 0 or buffer.tell() + found.size_bytes != size:
        raise SamplesError(f"{path}: is damaged: an array of {dtype}{list(shape)} does not fill its {size} bytes")
    return found
