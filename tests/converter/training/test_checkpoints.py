"""A training's standing is kept whole, and belongs to one training."""

import numpy as np
import pytest

from edgeferry.converter.errors import RequestError
from edgeferry.converter.training.checkpoints import Checkpoints, Standing

STANDING = Standing(1, 2, 5, 0.25, [np.arange(3.0), np.uint32([7])], [np.int64(9)], [np.ones((2, 2), np.float32)])


def test_what_was_saved_comes_back(tmp_path):
    Checkpoints(tmp_path / "new", "key").save(Standing(0, 1, 1, 1.0))
    Checkpoints(tmp_path / "new", "key").save(STANDING)

    found = Checkpoints(tmp_path / "new", "key").load()

    assert (found.phase, found.epoch, found.epochs, found.best_loss) == (1, 2, 5, 0.25)
    for group in ("variables", "optimizer", "best"):
        for one, other in zip(getattr(found, group), getattr(STANDING, group), strict=True):
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["checkpoint.npz"]


def test_that_of_another_training_is_refused(tmp_path):
    Checkpoints(tmp_path, "one").save(STANDING)

    with pytest.raises(RequestError, match="belongs to a training with another model, recipe or data"):
        Checkpoints(tmp_path, "other").load()


def test_nothing_to_resume_is_told(tmp_path):
    with pytest.raises(RequestError, match="is not there, so there is nothing to resume"):
        Checkpoints(tmp_path, "key").load()


def test_a_file_that_is_none_is_told(tmp_path):
    (tmp_path / "checkpoint.npz").write_bytes(b"nothing of the kind")

    with pytest.raises(RequestError, match="is no checkpoint"):
        Checkpoints(tmp_path, "key").load()
