"""Magnitude pruning: which weights become 0, and how many of them when. Pure.

The share of zeros follows a polynomial of the third degree (M. Zhu and S. Gupta, arXiv:1710.01878, equation 1), so that
most weights go while there are many to choose from.

Patterns are laid along the axis on which the device's kernels read weights, that of the channels that come in.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.training.recipe import Pattern

__all__ = ["BLOCK", "mask", "sparsity_at"]

BLOCK = 4  # weights in a row; what SIMD instructions of every device can skip


def sparsity_at(progress: float, initial: float, final: float) -> float:
    """Return the share of zeros after ``progress`` of the schedule, 0 to 1."""
    return final + (initial - final) * (1 - min(1.0, max(0.0, progress))) ** 3


def mask(weights: NDArray[np.float32], sparsity: float, pattern: Pattern) -> NDArray[np.float32]:
    """Return 1 where a weight stays and 0 where it goes.

    Args:
        weights: In units of their channel; the last axis but one counts the channels that come in.
        sparsity: Share that goes; of ``2:4`` it tells how many of the groups are pruned, so that 0.5 is all of them.
        pattern: Which weights go together.
    """
    magnitudes = np.abs(weights)
    match pattern:
        case Pattern.TWO_OF_FOUR:
            return _two_of_four(magnitudes, sparsity)
        case Pattern.BLOCK:
            return _blocks(magnitudes, sparsity)
        case _:
            return _smallest(magnitudes, sparsity)


def _smallest(magnitudes: NDArray[np.float32], sparsity: float) -> NDArray[np.float32]:
    count = round(magnitudes.size * sparsity)
    kept = np.ones(magnitudes.size, np.float32)
    kept[np.argsort(magnitudes, axis=None, kind="stable")[:count]] = 0
    return kept.reshape(magnitudes.shape)


def _two_of_four(magnitudes: NDArray[np.float32], sparsity: float) -> NDArray[np.float32]:
    groups, restore = _grouped(magnitudes)
    kept = np.ones_like(groups)
    two_smallest = np.argsort(groups, axis=1, kind="stable")[:, :2]
    pruned = _least(np.take_along_axis(groups, two_smallest, axis=1).sum(axis=1), groups, min(1.0, sparsity * 2))
    kept[pruned[:, np.newaxis], two_smallest[pruned]] = 0
    return restore(kept)


def _blocks(magnitudes: NDArray[np.float32], sparsity: float) -> NDArray[np.float32]:
    groups, restore = _grouped(magnitudes)
    kept = np.ones_like(groups)
    kept[_least(groups.sum(axis=1), groups, sparsity)] = 0
    return restore(kept)


def _least(losses: NDArray[np.float32], groups: NDArray[np.float32], share: float) -> NDArray[np.int64]:
    """Return which of the full groups lose least, ``share`` of them."""
    is_full = np.isfinite(groups).all(axis=1)
    order = np.argsort(np.where(is_full, losses, np.inf), kind="stable")
    return order[: round(int(is_full.sum()) * share)]


def _grouped(
    magnitudes: NDArray[np.float32],
) -> tuple[NDArray[np.float32], Callable[[NDArray[np.float32]], NDArray[np.float32]]]:
    """Return rows of four neighbours along the channels that come in, and what puts such rows back.

    A last group that is not full is filled up with infinities: it is never pruned.
    """
    moved = np.moveaxis(magnitudes, -2, -1)
    room = -moved.shape[-1] % BLOCK
    filled = np.pad(moved, [(0, 0)] * (moved.ndim - 1) + [(0, room)], constant_values=np.inf)

    def restore(groups: NDArray[np.float32]) -> NDArray[np.float32]:
        back = groups.reshape(filled.shape)[..., : moved.shape[-1]]
        return np.ascontiguousarray(np.moveaxis(back, -1, -2))

    return filled.reshape(-1, BLOCK), restore
