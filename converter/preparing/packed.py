"""Arrays that cannot be read where they lie, compressed ones and those in Fortran's order, as a folder of arrays."""

import shutil
import zipfile
import zlib
from pathlib import Path

import numpy as np

from edgeferry.converter.child import report_step
from edgeferry.converter.errors import SamplesError
from edgeferry.converter.rows import Place, check_members, npy_place
from edgeferry.converter.sample_folder import ArrayWriter, Contents, write_contents
from edgeferry.converter.samples import places_in

__all__ = ["MAX_UNPACKED_BYTES", "unpack"]

MAX_UNPACKED_BYTES = 64 * 1024**3  # 100,000 samples of 224 x 224 x 3 floats
_ROOM_LEFT_BYTES = 256 * 1024**2  # for everything else that a conversion writes
_PIECE_BYTES = 1024 * 1024
_DAMAGE = (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, ValueError)


def unpack(source: Path, made: Path, folder: Path) -> None:
    """Write the arrays of ``source`` into the folder ``made``, in C's order.

    Args:
        source: A ``.npz`` or ``.npy``, or a folder of ``.npy``.
        made: Is there, and empty.
        folder: Of the child.

    Raises:
        SamplesError: It is damaged, or too large.
    """
    places = places_in(source)
    arrays = {}
    for number, (name, place) in enumerate((places or _inflated(source, made, folder)).items()):
        file = f"{number}.npy"
        if place.is_by_columns:
            report_step(folder, f"putting {name} into order")
            _put_in_order(place, made / file)
        elif place.path.parent == made:
            place.path.replace(made / file)
        else:
            _copy(place, made / file)
        arrays[name] = file
    for left in made.glob("*.packed"):
        left.unlink()
    write_contents(made, Contents(arrays))


def _inflated(source: Path, made: Path, folder: Path) -> dict[str, Place]:
    """Return where the members of a compressed ``.npz`` lie, unpacked beside each other in ``made``."""
    with zipfile.ZipFile(source) as archive:
        members = archive.infolist()
        check_members(source, members)
        _check_room(source, sum(member.file_size for member in members), made)
        places = {}
        for number, member in enumerate(members):
            report_step(folder, f"unpacking {source.name}", done=number, total=len(members))
            file = made / f"{number}.packed"
            try:
                with archive.open(member) as packed, file.open("wb") as plain:
                    shutil.copyfileobj(packed, plain, _PIECE_BYTES)
            except _DAMAGE as err:
                raise SamplesError(f"{source}: is damaged: {err or type(err).__name__}") from err
            try:
                places[member.filename.removesuffix(".npy")] = npy_place(file)
            except SamplesError as err:
                reason = str(err).removeprefix(f"{file}: ")
                raise SamplesError(f"{source}: member {member.filename!r} {reason}") from err
    return places


def _check_room(source: Path, size_bytes: int, made: Path) -> None:
    if size_bytes > MAX_UNPACKED_BYTES:
        raise SamplesError(
            f"{source}: unpacks to {size_bytes} bytes, wanted {MAX_UNPACKED_BYTES} at most; give fewer samples"
        )
    free = shutil.disk_usage(made).free - _ROOM_LEFT_BYTES
    if size_bytes > free:
        raise SamplesError(
            f"{source}: unpacks to {size_bytes} bytes, and {made} has room for {max(0, free)}; "
            "give fewer samples, save them with numpy.savez, or point TMPDIR to a larger disk"
        )


def _put_in_order(place: Place, path: Path) -> None:
    columns = np.memmap(place.path, place.dtype, "r", place.offset, place.shape, order="F")
    writer = ArrayWriter(path, place.shape[1:], place.dtype)
    step = max(1, _PIECE_BYTES * place.shape[0] // max(1, place.size_bytes))
    for first in range(0, len(columns), step):
        writer.append(np.asarray(columns[first : first + step]))
    writer.close()


def _copy(place: Place, path: Path) -> None:
    """Copy an array that needs nothing but company: others of its file have to be put in order."""
    with place.path.open("rb") as file, path.open("wb") as copy:
        file.seek(place.start)
        left = place.offset - place.start + place.size_bytes
        while left and (piece := file.read(min(left, _PIECE_BYTES))):
            copy.write(piece)
            left -= len(piece)
