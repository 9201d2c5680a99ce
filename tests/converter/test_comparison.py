"""How two models answer the same samples, as figures."""

import numpy as np
import pytest

from edgeferry.converter.comparison import compare_answers

LABELS = np.array([0, 1, 2, 2])
FLOAT = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1]])[:, None]
OTHER = np.array([[0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1]])[:, None]


def test_with_labels_both_models_get_a_matrix_of_true_and_told_classes():
    found = compare_answers({"y": FLOAT}, {"y": OTHER}, LABELS)

    assert (found["kind"], found["classes"], found["labelled"], found["changed"]) == ("classes", 3, True, 1)
    assert found["float"] == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    assert found["candidate"] == [[1, 0, 0], [1, 0, 0], [0, 1, 1]]
    assert sorted(found["confusions"]["candidate"]) == [[1, 0, 1], [2, 1, 1]]


def test_without_labels_the_float_models_class_is_taken_for_the_true_one():
    found = compare_answers({"y": FLOAT}, {"y": OTHER}, None)

    assert found["labelled"] is False
    assert found["float"] == [[1, 0, 0], [0, 2, 0], [0, 0, 1]]
    assert found["candidate"] == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]


def test_a_single_score_tells_two_classes_apart():
    scores = np.array([0.2, 0.7])[:, None, None]

    found = compare_answers({"y": scores}, {"y": 1 - scores}, np.array([0, 1]))

    assert (found["float"], found["candidate"]) == ([[1, 0], [0, 1]], [[0, 1], [1, 0]])


def test_of_many_classes_only_the_most_frequent_mistakes_are_told():
    scores = np.eye(200)[:, None]
    wrong = scores.copy()
    wrong[[1, 2]] = wrong[[2, 1]]

    found = compare_answers({"y": scores}, {"y": wrong}, np.arange(200))

    assert "candidate" not in found
    assert sorted(found["confusions"]["candidate"]) == [[1, 2, 1], [2, 1, 1]]


def test_other_outputs_get_a_histogram_of_errors():
    rng = np.random.default_rng(0)
    wanted = {"a": rng.normal(size=(20, 1, 50)), "b": np.zeros((20, 1, 2))}
    found = compare_answers(wanted, {"a": wanted["a"] + 0.1, "b": wanted["b"]}, None)

    assert found["kind"] == "errors"
    a, b = found["outputs"]["a"], found["outputs"]["b"]
    assert sum(a["counts"]) == 1000
    assert len(a["edges"]) == len(a["counts"]) + 1
    assert abs(a["rmse"] - 0.1) < 1e-9
    assert (b["largest"], sum(b["counts"])) == (0.0, 40)


def test_scores_that_are_no_probabilities_are_compared_as_numbers_without_labels():
    assert compare_answers({"y": FLOAT * 2}, {"y": OTHER * 2}, None)["kind"] == "errors"
    assert compare_answers({"y": FLOAT * 2}, {"y": OTHER * 2}, LABELS)["kind"] == "classes"


@pytest.mark.parametrize(
    "labels",
    [np.array([0.5, 1, 2, 2]), np.array([[0], [1], [2], [2]]), np.array([0, 1, 2, 3]), np.array([-1, 1, 2, 2])],
)
def test_labels_that_name_no_classes_are_left_out(labels):
    assert compare_answers({"y": FLOAT}, {"y": OTHER}, labels)["kind"] == "errors"


def test_what_is_not_finite_is_left_out():
    broken = {"y": np.full((4, 2, 3), np.nan)}

    found = compare_answers({"y": np.ones((4, 2, 3))}, broken, None)["outputs"]["y"]

    assert (sum(found["counts"]), found["rmse"]) == (0, 0.0)
