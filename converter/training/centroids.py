"""K-means of weights: the few numbers that stand for many. Pure.

The first ones are chosen by k-means++ (D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding",
2007), the others follow by Lloyd's algorithm.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["centroids"]

_ROUNDS = 30  # of Lloyd's algorithm; few weights change their cluster after ten
_MOST_SAMPLES = 50_000  # of a layer's weights; more change no centroid by much


def centroids(weights: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """Return the ``count`` numbers that stand for ``weights`` with the least squared error, ascending.

    Args:
        weights: Any number of them, [weights].
        count: How many; fewer come back where there are fewer different weights.
        seed: Of the choice of the first ones.
    """
    random = np.random.default_rng(seed)
    if len(weights) > _MOST_SAMPLES:
        weights = random.choice(weights, _MOST_SAMPLES, replace=False)
    chosen = _far_apart(weights.astype(np.float64), count, random)
    for _ in range(_ROUNDS):
        nearest = np.searchsorted((chosen[1:] + chosen[:-1]) / 2, weights)
        sums, sizes = np.bincount(nearest, weights, len(chosen)), np.bincount(nearest, minlength=len(chosen))
        moved = np.sort(np.where(sizes > 0, sums / np.maximum(sizes, 1), chosen))
        if np.array_equal(moved, chosen):
            break
        chosen = moved
    return chosen.astype(np.float32)


def _far_apart(weights: NDArray[np.float64], count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return weights that are chosen the likelier the farther they are from those chosen before."""
    chosen = [random.choice(weights)]
    distances = (weights - chosen[0]) ** 2
    while len(chosen) < count and distances.sum() > 0:
        chosen.append(random.choice(weights, p=distances / distances.sum()))
        distances = np.minimum(distances, (weights - chosen[-1]) ** 2)
    return np.sort(np.array(chosen))
