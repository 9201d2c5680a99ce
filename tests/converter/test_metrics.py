"""Every metric against its definition, and what it cannot be told of."""

import numpy as np
import pytest

from edgeferry.converter.errors import SamplesError
from edgeferry.converter.metrics import Metric, check_labels, default_metric, hits, scorer

RANDOM = np.random.default_rng(2)


def classes(*found: int, of: int = 3) -> dict[str, np.ndarray]:
    """Return probabilities that name ``found``: samples, batch of 1, classes."""
    return {"out": (0.1 * np.ones((len(found), of)) + 0.7 * np.eye(of)[list(found)])[:, None]}


def score(metric: Metric, outputs: dict[str, np.ndarray], labels: np.ndarray | None, weights=None) -> float:
    count = len(next(iter(outputs.values())))
    given = np.ones((1, count)) if weights is None else np.array([weights], float)
    return float(scorer(metric, outputs, labels, outputs)(given)[0])


def test_balanced_accuracy_is_the_mean_over_the_classes() -> None:
    labels = np.array([0, 0, 0, 1])

    assert score(Metric.BALANCED_ACCURACY, classes(0, 0, 1, 1), labels) == pytest.approx((2 / 3 + 1) / 2)
    assert score(Metric.ACCURACY, classes(0, 0, 1, 1), labels) == 0.75


def test_a_class_without_samples_does_not_count() -> None:
    assert score(Metric.BALANCED_ACCURACY, classes(0, 2), np.array([0, 2])) == 1


def test_top_5_asks_whether_the_label_is_among_the_five_best() -> None:
    ranked = {"out": np.linspace(1, 0, 8)[None, None].repeat(3, axis=0)}  # class 0 is best, class 7 worst

    assert hits(Metric.TOP5, ranked, np.array([0, 4, 5]), ranked).tolist() == [True, True, False]


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order() -> None:
    scores = RANDOM.random(60)
    scores[:10] = 0.5  # equal ones count half
    labels = RANDOM.integers(0, 2, 60)
    positive, negative = scores[labels == 1], scores[labels == 0]
    pairs = (positive[:, None] > negative).mean() + (positive[:, None] == negative).mean() / 2

    assert score(Metric.ROC_AUC, {"o": scores[:, None, None]}, labels) == pytest.approx(pairs)


def test_the_area_of_several_classes_is_their_mean() -> None:
    perfect = classes(0, 1, 2, 1)

    assert score(Metric.ROC_AUC, perfect, np.array([0, 1, 2, 1])) == 1


def test_a_sample_that_counts_twice_is_as_two() -> None:
    scores, labels = RANDOM.random(30), RANDOM.integers(0, 2, 30)
    twice = np.r_[np.arange(30), 3, 7]
    weights = np.ones(30)
    weights[[3, 7]] = 2

    weighted = score(Metric.ROC_AUC, {"o": scores[:, None, None]}, labels, weights)

    assert weighted == pytest.approx(score(Metric.ROC_AUC, {"o": scores[twice][:, None, None]}, labels[twice]))


def test_one_class_alone_has_no_area() -> None:
    assert score(Metric.ROC_AUC, {"o": np.ones((3, 1, 1))}, np.ones(3, np.int64)) == 0


def test_mean_iou_counts_over_all_samples() -> None:
    labels = np.array([[[0, 0], [1, 1]]])
    found = np.eye(2)[np.array([[[0, 1], [1, 1]]])][:, None]  # [1, 1, 2, 2, 2]

    assert score(Metric.MEAN_IOU, {"o": found}, labels) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_errors_are_means_over_samples() -> None:
    outputs, labels = {"o": np.array([1.0, 2.0, 6.0])[:, None, None]}, np.array([1.0, 3.0, 3.0])

    assert score(Metric.MAE, outputs, labels) == pytest.approx(4 / 3)
    assert score(Metric.RMSE, outputs, labels) == pytest.approx((10 / 3) ** 0.5)


def test_what_is_no_number_is_the_largest_error() -> None:
    outputs = {"o": np.array([np.nan, 0.0])[:, None, None]}

    assert score(Metric.MAE, outputs, np.zeros(2)) > 1e90
    assert score(Metric.MAE, outputs, np.zeros(2), weights=[0, 1]) == 0


@pytest.mark.parametrize(
    ("outputs", "labels", "metric"),
    [
        (classes(0, 1), np.array([0, 1]), Metric.ACCURACY),
        ({"o": np.ones((2, 1, 4, 4, 3))}, np.zeros((2, 4, 4), np.int64), Metric.MEAN_IOU),
        ({"o": np.ones((2, 1, 1))}, np.zeros(2), Metric.MAE),
        (classes(0, 1), None, Metric.TOP1_AGREEMENT),
        ({"o": np.ones((2, 1, 1))}, None, Metric.R2_AGREEMENT),
        ({"a": np.ones((2, 1, 3)) / 3, "b": np.ones((2, 1, 3)) / 3}, None, Metric.R2_AGREEMENT),
    ],
)
def test_labels_and_outputs_say_what_counts(outputs, labels, metric: Metric) -> None:
    assert default_metric(outputs, labels) is metric
    check_labels(metric, outputs, labels)


@pytest.mark.parametrize(
    ("metric", "outputs", "labels", "said"),
    [
        (Metric.ACCURACY, classes(0), None, "accuracy needs labels y"),
        (Metric.ACCURACY, {"a": np.ones((2, 1, 3)), "b": np.ones((2, 1, 3))}, np.zeros(2, int), "leave y out"),
        (Metric.ACCURACY, {"picture": np.ones((2, 1, 4, 4, 3))}, np.zeros(2, int), "leave y out"),
        (Metric.TOP1_AGREEMENT, {"picture": np.ones((2, 1, 4, 4, 3))}, None, "leave y out"),
        (Metric.ROC_AUC, classes(0, 1), np.zeros(2), "roc_auc needs integer labels y"),
        (Metric.BALANCED_ACCURACY, classes(0, 1), np.array([0, 3]), "label 3 at sample 1.*tells 3 classes apart"),
        (Metric.TOP5, classes(0, 1), np.array([0, 1]), "of 3 classes is always 1"),
        (Metric.ROC_AUC, classes(0, 1), np.array([1, 1]), "two classes or more; y has 1 alone"),
        (Metric.MEAN_IOU, {"o": np.ones((2, 1, 4, 4, 3))}, np.zeros((2, 3), int), r"needs a map of \[4, 4\] integer"),
        (Metric.MEAN_IOU, {"o": np.ones((1, 1, 2, 2))}, np.full((1, 2), 2), "label 2, but the model tells 2"),
        (Metric.MEAN_IOU, classes(0, 1, 2), np.eye(3, dtype=int), "make classes of one-hot rows with argmax"),
        (Metric.MAE, {"o": np.ones((2, 1, 3))}, np.zeros(2), r"shape \[\] for each sample.* output \[3\]"),
        (Metric.RMSE, {"a": np.ones((2, 1)), "b": np.ones((2, 1))}, np.zeros(2), "rmse needs a model with one output"),
    ],
)
def test_what_a_metric_cannot_be_told_of_is_refused(metric: Metric, outputs, labels, said: str) -> None:
    with pytest.raises(SamplesError, match=said):
        check_labels(metric, outputs, labels)


def test_without_labels_there_is_no_error_to_count() -> None:
    with pytest.raises(SamplesError, match="mae needs labels"):
        scorer(Metric.MAE, classes(0), None, classes(0))
