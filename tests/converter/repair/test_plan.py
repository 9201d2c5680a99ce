"""The ladder: what is tried, in what order, and what of it is worth a judgement."""

from dataclasses import replace

import pytest

from edgeferry.converter.repair.plan import NO_REPAIR, Attempt, Ranges, Repair, Rung, attempts, rungs, to_judge
from edgeferry.device_profiles import Scheme

WORST = [("c;",), ("a;", "b;"), ("d;",), ("e;",), ("f;",), ("g;",), ("h;",), ("i;",)]


def attempt(error: float, **repair: object) -> Attempt:
    return Attempt(replace(NO_REPAIR, **repair), error, "attempt-0.tflite")


@pytest.mark.parametrize(
    ("scheme", "may_mix", "wanted"),
    [
        (Scheme.INT8, True, [Rung.RANGES, Rung.EQUALIZATION, Rung.FLOAT_LAYERS]),
        (Scheme.INT16X8, True, [Rung.RANGES, Rung.EQUALIZATION, Rung.FLOAT_LAYERS]),
        (Scheme.INT8, False, [Rung.RANGES, Rung.EQUALIZATION]),
        (Scheme.DYNAMIC_INT8, True, [Rung.EQUALIZATION, Rung.FLOAT_LAYERS]),
        (Scheme.FLOAT16, True, []),
        (Scheme.FLOAT32, True, []),
    ],
)
def test_a_scheme_has_the_rungs_that_can_help_it(scheme: Scheme, may_mix: bool, wanted: list[Rung]) -> None:
    assert list(rungs(scheme, may_mix=may_mix)) == wanted


def test_better_calibration_tries_every_other_way_to_learn_ranges() -> None:
    tried = attempts(Rung.RANGES, NO_REPAIR)

    assert [repair.ranges for repair in tried] == [Ranges.PERCENTILE, Ranges.LEAST_ERROR, Ranges.MOVING_AVERAGE]


def test_equalization_is_tried_with_and_without_what_the_rung_below_has_gained() -> None:
    tried = attempts(Rung.EQUALIZATION, Repair(Ranges.PERCENTILE))

    assert [(repair.ranges, repair.is_corrected) for repair in tried] == [
        (Ranges.MIN_MAX, False),
        (Ranges.PERCENTILE, False),
        (Ranges.MIN_MAX, True),
        (Ranges.PERCENTILE, True),
    ]
    assert all(repair.is_equalized for repair in tried)


def test_nothing_is_tried_twice() -> None:
    tried = attempts(Rung.EQUALIZATION, NO_REPAIR)

    assert len(tried) == len(set(tried)) == 2


def test_the_worst_layers_are_kept_in_float_up_to_half_of_all() -> None:
    equalized = Repair(is_equalized=True)

    tried = attempts(Rung.FLOAT_LAYERS, equalized, WORST)

    assert [repair.float_layers for repair in tried] == [
        ("c;",),
        ("c;", "a;", "b;"),
        ("c;", "a;", "b;", "d;", "e;"),
    ]
    assert all(repair.is_equalized for repair in tried)


def test_without_layers_that_lose_there_is_nothing_to_keep_in_float() -> None:
    assert attempts(Rung.FLOAT_LAYERS, NO_REPAIR, []) == ()


def test_the_mildest_of_about_equally_near_ones_is_judged() -> None:
    made = [attempt(0.5), attempt(0.011, is_equalized=True), attempt(0.010, is_equalized=True, is_corrected=True)]

    assert to_judge(Rung.EQUALIZATION, made) == (made[1],)


def test_of_layers_in_float_the_fewest_are_judged_first() -> None:
    made = [attempt(0.1, float_layers=("a", "b")), attempt(0.2, float_layers=("a",))]

    assert to_judge(Rung.FLOAT_LAYERS, made) == (made[1], made[0])


@pytest.mark.parametrize("rung", list(Rung))
def test_where_nothing_was_made_nothing_is_judged(rung: Rung) -> None:
    assert to_judge(rung, []) == ()


@pytest.mark.parametrize(
    ("repair", "sentence"),
    [
        (NO_REPAIR, ""),
        (Repair(Ranges.LEAST_ERROR), "mse ranges"),
        (Repair(is_equalized=True, is_corrected=True), "cross-layer equalization, bias correction"),
        (Repair(float_layers=("a",)), "1 layer in float"),
        (Repair(Ranges.PERCENTILE, float_layers=("a", "b")), "percentile ranges, 2 layers in float"),
    ],
)
def test_a_repair_has_a_sentence(repair: Repair, sentence: str) -> None:
    assert repair.sentence == sentence


@pytest.mark.parametrize(("scheme", "is_last"), [(Scheme.INT8, True), (Scheme.INT16X8, False), (Scheme.FLOAT16, False)])
def test_training_is_the_last_rung_of_int8_and_only_where_it_is_allowed(scheme: Scheme, is_last: bool) -> None:
    assert Rung.TRAINING not in rungs(scheme, may_mix=True)
    assert (rungs(scheme, may_mix=True, may_train=True)[-1:] == (Rung.TRAINING,)) is is_last


def test_training_starts_from_the_source_without_what_repairs_did_to_its_copy() -> None:
    (repair,) = attempts(Rung.TRAINING, Repair(Ranges.PERCENTILE, is_equalized=True))

    assert repair == Repair(is_trained=True)
    assert repair.sentence == "quantization-aware training"
