"""A candidate beside the float model: what it loses, and how sure that is."""

import numpy as np
import pytest

from edgeferry.converter.evaluate import evaluate
from edgeferry.converter.metrics import Metric

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


def test_the_interval_of_a_drop_is_paired():
    right = scores(*[0, 1] * 200)
    labels = np.array([0, 1] * 200)
    candidate = scores(*[1, 1], *[0, 1] * 199)

    evaluation = evaluate(right, candidate, labels)

    assert evaluation.drop == 1 / 400
    assert evaluation.interval == pytest.approx((-0.0070, 0.0140), abs=1e-4)
    assert evaluation.most == evaluation.interval[1]


def test_the_same_answers_lose_nothing_for_sure():
    assert evaluate(scores(0, 1), scores(0, 1), np.array([0, 1])).interval == (0, 0)


def test_few_samples_cannot_show_a_small_drop():
    reference, candidate = scores(*[0] * 50), scores(*[0] * 50)
    candidate["out"] += 1e-3

    evaluation = evaluate(reference, candidate, np.zeros(50, np.int64))

    assert evaluation.drop == 0
    assert evaluation.most == pytest.approx(evaluation.least) == pytest.approx(0.0713, abs=1e-4)


@pytest.mark.parametrize(
    ("metric", "least"),
    [(Metric.BALANCED_ACCURACY, (3.8415 / 8.8415)), (Metric.ROC_AUC, 3.8415 / 13.8415)],
)
def test_few_samples_without_a_different_answer_show_little_by_any_metric_of_answers(metric, least):
    reference, candidate = scores(*[0, 1] * 5), scores(*[0, 1] * 5)
    candidate["out"] += 1e-3

    evaluation = evaluate(reference, candidate, np.array([0, 1] * 5), metric)

    assert evaluation.drop == 0
    assert evaluation.most == pytest.approx(least, abs=1e-3)


def test_an_error_that_grows_is_a_loss_in_spreads_of_the_labels():
    labels = np.array([0.0, 10.0, 20.0, 30.0])
    reference, candidate = {"o": labels[:, None, None] + 1.0}, {"o": labels[:, None, None] + 3.0}

    evaluation = evaluate(reference, candidate, labels)

    assert (evaluation.metric, evaluation.float_score, evaluation.score) == (Metric.MAE, 1.0, 3.0)
    assert evaluation.drop == pytest.approx(2 / labels.std())
    assert evaluation.interval == pytest.approx((evaluation.drop, evaluation.drop))


def test_constant_labels_have_no_spread_to_tell_an_error_in():
    labels = np.full(4, 5.0)

    assert evaluate({"o": np.full((4, 1, 1), 5.0)}, {"o": np.full((4, 1, 1), 6.0)}, labels).drop == 1


def test_a_metric_that_is_named_is_used():
    assert evaluate(scores(0, 1, 2, 0), scores(0, 1, 2, 1), LABELS, Metric.TOP1_AGREEMENT).score == 0.75
