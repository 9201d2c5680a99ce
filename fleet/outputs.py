"""The file that inference writes its outputs to: checked before a device is asked, and replaced in one step."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeferry.fleet.errors import UsageError
from edgeferry.fleet.files import replacing, sync_folder

__all__ = ["check_can_write", "check_holds", "write_outputs"]


def check_can_write(path: Path) -> None:
    """Do nothing when ``path`` can become a file of arrays.

    Raises:
        UsageError: It is called something else, or its folder is missing or not this user's to write to.
    """
    if path.suffix not in (".npy", ".npz"):
        raise UsageError(f"{path}: ends in {path.suffix or 'nothing'!r}, wanted .npy, or .npz for several outputs")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(f"{path}: the folder {path.parent} may not be written to; choose another")


def check_holds(path: Path, names: Sequence[str]) -> None:
    """Do nothing when a file called ``path`` can hold the outputs ``names``.

    Raises:
        UsageError: They are several, and it is a .npy.
    """
    if len(names) > 1 and path.suffix == ".npy":
        raise UsageError(f"{path}: holds one array, the outputs are {', '.join(names)}; name a .npz file")


def write_outputs(path: Path, outputs: Mapping[str, np.ndarray]) -> None:
    """Replace ``path`` by ``outputs``: by name in a .npz, the only one in a .npy.

    Raises:
        FleetError: The disk refused; what was there stays.
    """
    with replacing(path) as file:
        if path.suffix == ".npz":
            np.savez(file, **outputs)  # type: ignore[arg-type]  # an output may be called anything but allow_pickle
        else:
            np.save(file, next(iter(outputs.values())))
    sync_folder(path.parent)
