"""Scores, and the comparison with the source."""

import numpy as np
import pytest

from edgeferry.converter.errors import SamplesError
from edgeferry.converter.evaluate import Metric, classes_of, evaluate, largest_difference

LABELS = np.array([0, 1, 2, 1])


def scores(*classes: int) -> dict[str, np.ndarray]:
    """Return probabilities that name ``classes``, as a model gives them: samples, batch of 1, classes."""
    return {"out": (0.1 * np.ones((len(classes), 3)) + 0.7 * np.eye(3)[list(classes)])[:, None]}


def test_with_labels_the_score_is_the_accuracy():
    evaluation = evaluate(scores(0, 1, 2, 0), scores(0, 2, 2, 0), LABELS)

    assert (evaluation.metric, evaluation.float_score, evaluation.score) == (Metric.ACCURACY, 0.75, 0.5)
    assert evaluation.drop == 0.25
    assert evaluation.samples == 4


def test_a_candidate_may_do_better_than_the_float_model():
    assert evaluate(scores(0, 1, 2, 0), scores(0, 1, 2, 1), LABELS).drop == -0.25


def test_a_single_score_is_the_probability_of_class_one():
    single = {"out": np.array([0.9, 0.2, 0.5, 0.1])[:, None, None]}

    assert evaluate(single, single, np.array([1, 0, 1, 1])).score == 0.75
    assert classes_of(single) == 2


def test_nan_is_no_class():
    candidate = scores(0, 1, 2, 1)
    candidate["out"][0] = np.nan  # argmax would say class 0, which is right

    assert evaluate(scores(0, 1, 2, 1), candidate, LABELS).score == 0.75


def test_without_labels_probabilities_are_compared_class_by_class():
    evaluation = evaluate(scores(0, 1, 2, 0), scores(0, 1, 2, 2), None)

    assert (evaluation.metric, evaluation.float_score, evaluation.score) == (Metric.TOP1_AGREEMENT, 1.0, 0.75)


def test_without_labels_other_outputs_are_compared_by_explained_variance():
    reference = {"out": np.array([1.0, 2.0, 3.0, 4.0])[:, None, None]}
    candidate = {"out": reference["out"] + 0.5}

    evaluation = evaluate(reference, candidate, None)

    assert evaluation.metric == Metric.R2_AGREEMENT
    assert evaluation.score == pytest.approx(1 - 4 * 0.25 / 5)


def test_the_worst_output_counts():
    reference = {"a": np.arange(6.0)[:, None, None], "b": np.arange(6.0)[:, None, None]}

    assert evaluate(reference, {"a": reference["a"], "b": -reference["b"]}, None).score == 0


@pytest.mark.parametrize(("found", "score"), [(7.0, 1.0), (7.1, 0.0)])
def test_a_constant_output_is_explained_by_itself_alone(found, score):
    assert evaluate({"o": np.full((3, 1, 1), 7.0)}, {"o": np.full((3, 1, 1), found)}, None).score == score


def test_nan_explains_nothing():
    reference = {"o": np.arange(3.0)[:, None, None]}

    assert evaluate(reference, {"o": np.full((3, 1, 1), np.nan)}, None).score == 0


@pytest.mark.parametrize(
    "outputs",
    [
        {"a": np.ones((2, 1, 3)), "b": np.ones((2, 1, 3))},
        {"picture": np.ones((2, 1, 4, 4, 3))},
    ],
)
def test_labels_need_one_output_with_a_score_per_class(outputs):
    with pytest.raises(SamplesError, match="leave y out"):
        classes_of(outputs)


def test_a_model_that_converts_well_differs_nowhere():
    source = {"out": np.linspace(-5, 5, 12).reshape(4, 1, 3)}
    converted = {"out": np.concatenate([source["out"] + 1e-6, np.ones((2, 1, 3))])}

    assert largest_difference(source, converted) is None


def test_the_largest_difference_is_named():
    source = {"a": np.ones((4, 1, 3)), "b": np.ones((4, 1, 3))}
    converted = {"a": np.ones((4, 1, 3)), "b": np.ones((4, 1, 3))}
    converted["a"][1, 0, 0] = 1.1
    converted["b"][2, 0, 1] = 3.0

    difference = largest_difference(source, converted)

    assert (difference.output, difference.sample) == ("b", 2)
    assert difference.sentence == "output 'b' of sample 2 is 3 at [0, 1], the source says 1"


def test_nan_is_the_largest_difference():
    converted = {"a": np.ones((4, 1, 3))}
    converted["a"][3, 0, 2] = np.nan

    assert largest_difference({"a": np.ones((4, 1, 3))}, converted).sample == 3


def test_other_shapes_and_names_are_differences():
    source = {"a": np.ones((2, 1, 3))}

    assert "shape [1, 4], wanted [1, 3]" in largest_difference(source, {"a": np.ones((2, 1, 4))}).sentence
    assert largest_difference(source, {"b": source["a"]}).sentence == "the outputs are called b, wanted a"
