"""What is told of a training."""

import pytest

from edgeferry.converter.evaluate import Evaluation
from edgeferry.converter.metrics import Metric
from edgeferry.converter.training.result import Sizes, Trained, compressed_bytes


def trained(metric: Metric = Metric.ACCURACY, **report: object) -> Trained:
    sizes = Sizes(10, 5)
    return Trained(Evaluation(metric, 0.9, 0.9, 100, 0, (0, 0)), 1.0, sizes, sizes, (1.0, 1.0), report)


def test_a_phase_without_an_epoch_that_was_better_than_its_start_is_told():
    epochs = [("pruning", False), ("pruning", True), ("clustering", False), ("clustering", False)]

    found = trained(epochs=[{"phase": phase, "is_best": is_best} for phase, is_best in epochs])

    assert found.idle_phases == ("clustering",)


@pytest.mark.parametrize(
    ("metric", "is_share"), [(Metric.ACCURACY, True), (Metric.TOP1_AGREEMENT, True), (Metric.MAE, False)]
)
def test_answers_of_classes_agree_as_a_share_of_samples_and_numbers_by_r2(metric, is_share):
    assert trained(metric).is_agreement_of_classes is is_share


def test_zeros_compress(tmp_path):
    (tmp_path / "model").write_bytes(bytes(10_000))

    assert compressed_bytes(tmp_path / "model") < 100
