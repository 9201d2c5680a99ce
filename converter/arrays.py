"""Named arrays in a folder: how outputs cross from a child process, memory-mapped, so that size costs no memory.

Each array is a ``.npy`` file called after its index, because a tensor's name may hold anything; ``names.json`` tells
which is which.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["create_arrays", "read_arrays", "write_arrays"]

_NAMES = "names.json"


def create_arrays(
    folder: Path, specs: Mapping[str, tuple[tuple[int, ...], DTypeLike]]
) -> dict[str, np.memmap[Any, np.dtype[Any]]]:
    """Return new arrays in ``folder``, to be filled in place; ``specs`` says shape and dtype by name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _NAMES).write_text(json.dumps(list(specs)))
    return {name: _create(folder / f"{i}.npy", *spec) for i, (name, spec) in enumerate(specs.items())}


def write_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write ``arrays`` into ``folder``."""
    created = create_arrays(folder, {name: (array.shape, array.dtype) for name, array in arrays.items()})
    for name, array in arrays.items():
        created[name][...] = array


def read_arrays(folder: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays in ``folder`` by name, read-only and memory-mapped."""
    names = json.loads((folder / _NAMES).read_text())
    return {
        name: np.load(folder / f"{index}.npy", mmap_mode="r", allow_pickle=False) for index, name in enumerate(names)
    }


def _create(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> np.memmap[Any, np.dtype[Any]]:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    with path.open("r+b") as file:  # a full disk shall be an error here, not a SIGBUS at the first write
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
