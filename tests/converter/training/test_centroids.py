"""K-means finds the numbers that stand for many."""

import numpy as np

from edgeferry.converter.training.centroids import centroids


def test_clusters_that_lie_apart_are_found():
    random = np.random.default_rng(0)
    weights = np.concatenate([random.normal(middle, 0.01, 300) for middle in (-1, -0.2, 0.3, 1)]).astype(np.float32)

    assert np.allclose(centroids(weights, 4, seed=1), [-1, -0.2, 0.3, 1], atol=0.01)


def test_more_centroids_err_less_and_far_less_than_even_steps_do_on_a_bell():
    weights = np.random.default_rng(0).normal(size=20_000).astype(np.float32)

    def error(found: np.ndarray) -> float:
        return float(np.mean(np.abs(weights[:, None] - found).min(axis=1) ** 2))

    even = error(np.linspace(weights.min(), weights.max(), 16))
    assert error(centroids(weights, 16, 0)) < error(centroids(weights, 8, 0))
    assert error(centroids(weights, 16, 0)) < 0.6 * even


def test_the_same_seed_gives_the_same_and_many_weights_are_drawn_from():
    weights = np.random.default_rng(0).normal(size=60_000).astype(np.float32)

    assert np.array_equal(centroids(weights, 16, 3), centroids(weights, 16, 3))
    assert not np.array_equal(centroids(weights, 16, 3), centroids(weights, 16, 4))


def test_fewer_different_weights_than_clusters_give_as_many_centroids():
    assert centroids(np.float32([0.5, 0.5, -1, -1]), 16, 0).tolist() == [-1, 0.5]
