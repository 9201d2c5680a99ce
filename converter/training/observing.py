"""Tells the parent process how a training goes, and hears from it when to stop."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from edgeferry.converter.child import report_step

__all__ = ["EPOCHS", "STOP", "Epoch", "FolderObserver", "Observer"]

EPOCHS = "epochs.jsonl"
STOP = "stop"


@dataclass(frozen=True, slots=True)
class Epoch:
    """What an epoch showed.

    Attributes:
        phase: Which one it belongs to.
        number: Of the epoch in the phase, from 1.
        loss: Mean over the samples that were learned from.
        held_back_loss: Mean over those that were not.
        is_best: Whether it is the least of the phase so far.
    """

    phase: str
    number: int
    epochs: int
    loss: float
    held_back_loss: float
    is_best: bool


class Observer(Protocol):
    """Who is told how far the training is, and can stop it."""

    def step(self, done: int, total: int) -> bool:
        """Take note that ``done`` steps are done; return whether to go on."""
        ...

    def epoch(self, epoch: Epoch) -> None:
        """Take note of an epoch."""
        ...


class FolderObserver:
    """Writes into the child's folder.

    Args:
        folder: The child's.
        minutes: After which the training ends; 0 for no limit.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        self.epochs: list[Epoch] = []
        self._folder = folder
        self._end_s = time.monotonic() + minutes * 60 if minutes else float("inf")

    def step(self, done: int, total: int) -> bool:
        """Tell how many steps are done; return whether to go on."""
        report_step(self._folder, "training", done=done, total=total)
        return time.monotonic() < self._end_s and not (self._folder / STOP).exists()

    def epoch(self, epoch: Epoch) -> None:
        """Tell what an epoch showed."""
        self.epochs.append(epoch)
        with (self._folder / EPOCHS).open("a") as file:
            file.write(json.dumps(asdict(epoch)) + "\n")
