"""Samples become batches, and a part is held back."""

import numpy as np
import pytest

from edgeferry.converter.errors import SamplesError
from edgeferry.converter.training.batches import Batches, split


def made(count: int = 103, **changes):
    options = {"held_back": 0.1, "batch_size": 8, "seed": 0, "where": "train.npz"} | changes
    return split([np.arange(count)], [np.arange(count) * 2], **options)


def test_samples_are_either_learned_from_or_held_back():
    learn, judge = made()

    assert (learn.count, judge.count) == (93, 10)
    assert sorted([*learn.inputs[0], *judge.inputs[0]]) == list(range(103))


def test_inputs_and_targets_stay_together_and_an_epoch_repeats_no_sample():
    learn, _ = made()

    batches = list(learn.shuffled(seed=0, epoch=0))

    assert len(batches) == learn.per_epoch == 11
    assert all(np.array_equal(inputs[0] * 2, targets[0]) and len(inputs[0]) == 8 for inputs, targets in batches)
    seen = np.concatenate([inputs[0] for inputs, _ in batches])
    assert len(set(seen)) == len(seen)


def test_each_epoch_has_an_order_of_its_own_that_repeats():
    learn, _ = made()

    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate([inputs[0] for inputs, _ in learn.shuffled(seed, epoch)]).tolist()

    assert order(0, 1) == order(0, 1)
    assert order(0, 0) != order(0, 1) != order(1, 1)


def test_all_samples_come_in_order_where_nothing_is_learned():
    batches = Batches([np.arange(10)], [], 4)

    assert [inputs[0].tolist() for inputs, _ in batches.in_order()] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_few_samples_make_one_batch():
    learn, judge = made(3, held_back=0.9)

    assert (learn.count, learn.size, judge.count) == (1, 1, 2)


def test_a_batch_can_be_shared_by_all_replicas():
    learn, _ = made(replicas=3)

    assert learn.size == 6


def test_too_few_samples_for_the_replicas_are_refused():
    with pytest.raises(SamplesError, match=r"train\.npz: 2 samples to learn from, or a batch of 8, for 3 replicas"):
        made(3, replicas=3)


def test_one_sample_is_refused():
    with pytest.raises(SamplesError, match=r"train\.npz: holds 1 sample; training needs 2 or more"):
        made(1)
