"""Samples as training takes them: a part held back to judge each epoch, and shuffled batches of the rest.

Every worker draws the same order from the same seed and takes its own share of each batch, so that no sample is seen
twice in an epoch and nothing about data has to travel.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.errors import SamplesError

__all__ = ["Batches", "split"]

Arrays = Sequence[NDArray[Any]]
_FEWEST = 2  # one to learn from, one to judge by


@dataclass(frozen=True, slots=True)
class Batches:
    """Samples in memory.

    Attributes:
        inputs: One array for each input of the model, the samples on the first axis.
        targets: What the loss compares scores with, likewise.
        size: Of a batch over all workers.
    """

    inputs: Arrays
    targets: Arrays
    size: int

    @property
    def count(self) -> int:
        """Return the number of samples."""
        return len(self.inputs[0])

    @property
    def per_epoch(self) -> int:
        """Return how many batches an epoch has: full ones, so that every worker always has its share."""
        return self.count // self.size

    def shuffled(self, seed: int, epoch: int) -> Iterator[tuple[Arrays, Arrays]]:
        """Yield the batches of one epoch; those that are left over come in another."""
        order = np.random.default_rng((seed, epoch)).permutation(self.count)
        for at in range(self.per_epoch):
            yield self._taken(order[at * self.size : (at + 1) * self.size])

    def in_order(self) -> Iterator[tuple[Arrays, Arrays]]:
        """Yield all samples as they stand, in batches, of which the last may be smaller."""
        for start in range(0, self.count, self.size):
            yield self._taken(slice(start, start + self.size))

    def _taken(self, which: Any) -> tuple[Arrays, Arrays]:
        return [one[which] for one in self.inputs], [one[which] for one in self.targets]


def split(
    inputs: Arrays, targets: Arrays, *, held_back: float, batch_size: int, seed: int, where: str, replicas: int = 1
) -> tuple[Batches, Batches]:
    """Return the samples to learn from, and those to judge epochs by.

    Args:
        inputs: As of `Batches`.
        targets: As of `Batches`.
        held_back: Share of the samples to judge by, chosen by ``seed``.
        batch_size: Of the first; less where there are fewer samples.
        seed: Of the choice.
        where: The file that the samples stand in, for messages.
        replicas: That share each batch; its size is a multiple of theirs.

    Raises:
        SamplesError: There are too few.
    """
    count = len(inputs[0])
    if count < _FEWEST:
        raise SamplesError(f"{where}: holds {count} sample; training needs {_FEWEST} or more")
    order = np.random.default_rng(seed).permutation(count)
    judges = min(max(1, round(count * held_back)), count - 1)
    judge, learn = np.sort(order[:judges]), np.sort(order[judges:])
    size = min(batch_size, len(learn)) // replicas * replicas
    if not size:
        raise SamplesError(
            f"{where}: {len(learn)} samples to learn from, or a batch of {batch_size}, for {replicas} replicas"
        )
    return (
        Batches([one[learn] for one in inputs], [one[learn] for one in targets], size),
        Batches([one[judge] for one in inputs], [one[judge] for one in targets], max(size, 64)),
    )
