"""Where a training stands, in a file, so that it can go on after whatever has ended it.

A checkpoint is written after each epoch, beside its place, synced and renamed: it is whole or not there. It holds every
variable of model and optimizer: a training that goes on ends with the weights of one that was never interrupted.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.errors import RequestError

__all__ = ["Checkpoints", "Standing"]

_FILE = "checkpoint.npz"
_GROUPS = ("variables", "optimizer", "best")


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a training is.

    Attributes:
        phase: Number of the phase, from 0.
        epoch: Epochs of it that are done.
        epochs: Epochs of all phases that are done.
        best_loss: The least of the phase on the samples that were held back.
        variables: Of the model.
        optimizer: Its variables.
        best: Weights of the model that had the least loss; empty where none had been judged.
    """

    phase: int
    epoch: int
    epochs: int
    best_loss: float
    variables: Sequence[NDArray[Any]] = field(default_factory=list)
    optimizer: Sequence[NDArray[Any]] = field(default_factory=list)
    best: Sequence[NDArray[Any]] = field(default_factory=list)


class Checkpoints:
    """Keeps the newest standing of one training.

    Args:
        folder: Made when the first one is saved.
        key: What the training is; one of another cannot be gone on with.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._path = folder / _FILE
        self._key = key

    def save(self, standing: Standing) -> None:
        """Put ``standing`` in the place of the one before."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        place = np.array([standing.phase, standing.epoch, standing.epochs])
        arrays: dict[str, Any] = {"key": np.array(self._key), "place": place, "best_loss": np.array(standing.best_loss)}
        for group in _GROUPS:
            arrays |= {f"{group}.{at}": one for at, one in enumerate(getattr(standing, group))}
        beside = self._path.with_suffix(".new")
        with beside.open("wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)

    def load(self) -> Standing:
        """Return the newest standing.

        Raises:
            RequestError: There is none, or it is that of another training.
        """
        try:
            with np.load(self._path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except FileNotFoundError as err:
            raise RequestError(
                f"{self._path}: is not there, so there is nothing to resume; leave --resume out"
            ) from err
        except (OSError, ValueError) as err:
            raise RequestError(f"{self._path}: is no checkpoint: {err}; begin anew without --resume") from err
        if arrays["key"].item() != self._key:
            raise RequestError(
                f"{self._path}: belongs to a training with another model, recipe or data; give what it was started "
                "with, or begin anew without --resume"
            )
        groups = {group: _numbered(arrays, group) for group in _GROUPS}
        phase, epoch, epochs = (int(number) for number in arrays["place"])
        return Standing(phase, epoch, epochs, float(arrays["best_loss"]), **groups)


def _numbered(arrays: dict[str, NDArray[Any]], group: str) -> list[NDArray[Any]]:
    count = sum(name.startswith(f"{group}.") for name in arrays)
    return [arrays[f"{group}.{at}"] for at in range(count)]
