"""The table that ends a conversion."""

from edgeferry.converter.evaluate import Evaluation
from edgeferry.converter.latency import Basis, Latency
from edgeferry.converter.metrics import Metric
from edgeferry.converter.selection import Candidate, Choice, Verdict
from edgeferry.converter.table import headings, rows, text_table
from edgeferry.device_profiles import Scheme

EVALUATION = Evaluation(Metric.ACCURACY, 0.9, 0.85, 100, 0.05, (-0.01, 0.12))
CANDIDATE = Candidate(Scheme.INT8, 2048, 4096, 1.0, EVALUATION)
MADE = Verdict(Scheme.INT8, CANDIDATE, (), "chosen", Latency(1.0, Basis.HOST))
PASSED_OVER = Verdict(Scheme.INT16X8, None, (), "passed over")


def test_a_profile_is_named_once_and_the_score_is_called_by_its_metric():
    choice = Choice("board", (MADE, PASSED_OVER), CANDIDATE)

    assert headings([choice])[3] == "accuracy"
    assert rows([choice]) == [
        ("board", "int8", "2.0 KiB", "0.8500", "+0.0500 (-0.0100 to +0.1200)", "1 ms here", "chosen"),
        ("", "int16x8", "", "", "", "", "passed over"),
    ]


def test_without_any_candidate_there_is_just_a_score():
    assert headings([Choice("board", (PASSED_OVER,), None)])[3] == "score"


def test_columns_are_as_wide_as_their_widest_cell():
    assert text_table(("a", "b"), [("long", "x"), ("", "y")]) == "a     b\nlong  x\n      y"
