"""What is said of a model's outputs."""

import numpy as np
import pytest

from edgeferry.converter.answers import right_share, summarize

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.4, 0.1]], np.float32)


def test_scores_are_told_by_their_best_classes():
    summary = summarize("scores", SCORES, ("cat", "dog", "bird"))

    assert [[(answer.name, round(answer.score, 1)) for answer in best] for best in summary.best] == [
        [("dog", 0.7), ("bird", 0.2), ("cat", 0.1)],
        [("cat", 0.5), ("dog", 0.4), ("bird", 0.1)],
    ]


def test_classes_without_fitting_labels_are_numbers():
    assert summarize("scores", SCORES, ("only", "two")).best[0][0].name == "1"


def test_other_outputs_are_told_by_their_range():
    summary = summarize("mask", np.array([[[1.0, np.nan, 3.0]]]))

    assert (summary.least, summary.mean, summary.greatest, summary.not_finite) == (1.0, 2.0, 3.0, 1)
    assert summary.best == ()


def test_an_output_without_a_finite_value_has_no_range():
    summary = summarize("lost", np.full((2, 1), np.inf))

    assert (summary.least, summary.mean, summary.greatest, summary.not_finite) == (None, None, None, 2)


def test_scores_that_are_not_finite_have_no_best_class():
    assert summarize("scores", np.array([[0.5, np.nan]])).best == ()


def test_the_share_of_right_classes_is_told_where_the_file_has_labels():
    assert right_share(SCORES, np.array([1, 1])) == 0.5


@pytest.mark.parametrize(
    "truth", [None, np.array([1]), np.array([0.5, 0.5]), np.array([-1, 0]), np.array([0, 3])], ids=str
)
def test_labels_that_are_no_classes_of_the_output_are_left_alone(truth):
    assert right_share(SCORES, truth) is None
