"""The first scheme that keeps every budget."""

from dataclasses import replace

from edgeferry.converter.evaluate import Evaluation
from edgeferry.converter.inspection.tflite_facts import OperatorKind, OperatorUse
from edgeferry.converter.latency import Basis, Latency
from edgeferry.converter.metrics import Metric
from edgeferry.converter.objective import Objective
from edgeferry.converter.selection import Candidate, Unavailable, choose, in_mib
from edgeferry.device_profiles import Budgets, Scheme, load_profile

BUDGETS = Budgets(model_bytes=2 << 20, memory_bytes=8 << 20, latency_ms=20.0)
BOARD = replace(load_profile("raspberry-pi-32bit"), name="board", budgets=BUDGETS)
ORDER = (Scheme.INT8, Scheme.DYNAMIC_INT8, Scheme.FLOAT32)


def candidate(
    scheme: Scheme,
    *,
    drop: float = 0.0,
    most: float | None = None,
    least: float = 0.0,
    size_bytes: int = 1 << 20,
    memory_bytes: int = 1 << 20,
) -> Candidate:
    interval = (drop, drop if most is None else most)
    evaluation = Evaluation(Metric.ACCURACY, 0.9, 0.9 - drop, 100, drop, interval, least)
    return Candidate(scheme, size_bytes, memory_bytes, 1.0, evaluation)


def chosen_from(*candidates: Candidate | Unavailable, order=ORDER, max_drop: float = 0.01):
    return choose(BOARD, order, {one.scheme: one for one in candidates}, max_drop)


def test_the_first_scheme_that_keeps_the_budgets_is_chosen():
    choice = chosen_from(*(candidate(scheme) for scheme in ORDER))

    assert choice.chosen.scheme is Scheme.INT8
    assert [verdict.reason for verdict in choice.verdicts] == [
        "chosen",
        "good, but int8 comes first",
        "good, but int8 comes first",
    ]


def test_a_scheme_that_loses_too_much_is_refused_with_both_figures():
    choice = chosen_from(candidate(Scheme.INT8, drop=0.3), candidate(Scheme.DYNAMIC_INT8), candidate(Scheme.FLOAT32))

    assert choice.chosen.scheme is Scheme.DYNAMIC_INT8
    assert choice.verdicts[0].reason == (
        "loses 0.3000 of accuracy, with 95 % confidence at most 0.3000; allowed are 0.01"
    )


def test_size_and_memory_are_budgets_too():
    choice = chosen_from(
        candidate(Scheme.INT8, memory_bytes=9 << 20),
        candidate(Scheme.DYNAMIC_INT8, size_bytes=3 << 20),
        candidate(Scheme.FLOAT32),
    )

    assert choice.chosen.scheme is Scheme.FLOAT32
    assert choice.verdicts[0].reason == "needs 9.00 MiB memory, the profile allows 8.00 MiB"
    assert choice.verdicts[1].reason == "has 3.00 MiB, the profile allows 2.00 MiB"


def test_what_exactly_meets_a_budget_keeps_it():
    exact = candidate(Scheme.INT8, drop=0.01, size_bytes=2 << 20, memory_bytes=8 << 20)

    assert chosen_from(exact, order=(Scheme.INT8,)).chosen == exact


def test_a_scheme_that_cannot_be_made_is_passed_over_with_a_reason():
    choice = chosen_from(Unavailable(Scheme.DYNAMIC_INT8, "no"), order=(Scheme.MIXED, Scheme.DYNAMIC_INT8), max_drop=0)

    assert choice.chosen is None
    assert choice.verdicts[0].reason.startswith("passed over: the converter makes float32")
    assert choice.verdicts[1].reason == "not made: no"
    assert choice.nearest_miss().startswith("mixed: passed over")


def test_the_nearest_miss_is_the_smallest_excess():
    choice = chosen_from(
        candidate(Scheme.INT8, drop=0.5),
        candidate(Scheme.DYNAMIC_INT8, drop=0.012),
        candidate(Scheme.FLOAT32, size_bytes=9 << 20, memory_bytes=99 << 20),
    )

    assert choice.chosen is None
    assert choice.nearest_miss() == (
        "nearest is dynamic_int8: loses 0.0120 of accuracy, with 95 % confidence at most 0.0120; allowed are 0.01"
    )


def test_no_drop_at_all_can_be_asked_for():
    choice = chosen_from(candidate(Scheme.INT8, drop=0.001), order=(Scheme.INT8,), max_drop=0.0)

    assert choice.nearest_miss() == (
        "nearest is int8: loses 0.0010 of accuracy, with 95 % confidence at most 0.0010; allowed are 0"
    )


def test_sizes_are_written_for_people():
    assert [in_mib(1536), in_mib(3 << 20)] == ["1.5 KiB", "3.00 MiB"]


def test_what_loses_before_the_chosen_one_can_be_repaired():
    choice = chosen_from(
        candidate(Scheme.INT8, drop=0.3), candidate(Scheme.DYNAMIC_INT8), candidate(Scheme.FLOAT32, drop=0.3)
    )

    assert choice.losing() == (Scheme.INT8,)


def test_by_another_objective_what_loses_behind_the_chosen_one_may_be_repaired_too():
    choice = chosen_from(
        candidate(Scheme.INT8), candidate(Scheme.DYNAMIC_INT8, drop=0.3), candidate(Scheme.FLOAT32, drop=0.3)
    )

    assert choice.losing() == ()
    assert choice.losing(Objective.SIZE) == (Scheme.DYNAMIC_INT8, Scheme.FLOAT32)


def test_what_is_too_large_as_well_is_not_worth_a_repair():
    choice = chosen_from(candidate(Scheme.INT8, drop=0.3, size_bytes=3 << 20), candidate(Scheme.DYNAMIC_INT8, drop=0.3))

    assert choice.losing() == (Scheme.DYNAMIC_INT8,)


def test_a_repaired_one_says_by_what():
    repaired = replace(candidate(Scheme.INT8), repaired_by="cross-layer equalization")

    choice = chosen_from(repaired, candidate(Scheme.DYNAMIC_INT8))

    assert choice.verdicts[0].reason == "chosen, repaired by cross-layer equalization"


def test_a_mixed_model_stands_in_for_the_scheme_that_it_was_made_of():
    mixed = replace(candidate(Scheme.MIXED), repaired_by="1 layer in float")

    choice = choose(BOARD, ORDER, {Scheme.INT8: mixed, Scheme.FLOAT32: candidate(Scheme.FLOAT32)}, 0.01)

    assert choice.chosen is mixed
    assert choice.verdicts[-1].reason == "good, but mixed comes first"


def test_the_budget_is_held_against_the_upper_end_of_the_interval():
    choice = chosen_from(candidate(Scheme.INT8, drop=0.005, most=0.02), candidate(Scheme.FLOAT32))

    assert choice.chosen.scheme is Scheme.FLOAT32
    assert choice.losing() == (Scheme.INT8,)


def test_too_few_samples_are_told_and_not_repaired():
    choice = chosen_from(candidate(Scheme.INT8, most=0.037, least=0.037), candidate(Scheme.FLOAT32))

    assert choice.verdicts[0].reason.endswith("and 100 samples cannot show less than 0.0370: give more")
    assert choice.losing() == ()


def test_the_least_loss_may_be_what_counts():
    candidates = {one.scheme: one for one in (candidate(Scheme.INT8, drop=0.005), candidate(Scheme.FLOAT32))}

    choice = choose(BOARD, (Scheme.INT8, Scheme.FLOAT32), candidates, 0.01, objective=Objective.ACCURACY)

    assert choice.chosen.scheme is Scheme.FLOAT32


def test_another_objective_overrides_the_order():
    candidates = {one.scheme: one for one in (candidate(Scheme.INT8), candidate(Scheme.FLOAT32, size_bytes=5))}

    choice = choose(BOARD, (Scheme.INT8, Scheme.FLOAT32), candidates, 0.01, objective=Objective.SIZE)

    assert choice.chosen.scheme is Scheme.FLOAT32
    assert choice.verdicts[0].reason == "good, but float32 is better for size"


def test_what_the_runtime_cannot_run_is_not_chosen():
    gelu = OperatorUse(name="GELU", kind=OperatorKind.BUILTIN, version=1, inputs=("int16",), outputs=("int16",))
    candidates = (replace(candidate(Scheme.INT8), operations=(gelu,)), candidate(Scheme.FLOAT32))

    choice = chosen_from(*candidates)

    assert choice.chosen.scheme is Scheme.FLOAT32
    assert choice.verdicts[0].reason.startswith("cannot run there: tflite-runtime 2.14.0 computes GELU on")
    assert choice.losing() == ()


def test_a_latency_on_such_a_device_is_held_against_its_budget():
    latencies = {
        Scheme.INT8: Latency(25.0, Basis.MEASURED, "kitchen"),
        Scheme.FLOAT32: Latency(19.0, Basis.MEASURED, "kitchen"),
    }
    candidates = {one.scheme: one for one in (candidate(Scheme.INT8), candidate(Scheme.FLOAT32))}

    choice = choose(BOARD, (Scheme.INT8, Scheme.FLOAT32), candidates, 0.01, latencies=latencies)

    assert choice.chosen.scheme is Scheme.FLOAT32
    assert choice.verdicts[0].reason == "takes 25 ms on kitchen, the profile allows 20 ms"


def test_a_latency_on_this_host_says_nothing_of_the_device():
    choice = choose(
        BOARD, (Scheme.INT8,), {Scheme.INT8: candidate(Scheme.INT8)}, 0.01,
        latencies={Scheme.INT8: Latency(25.0, Basis.HOST)},
    )  # fmt: skip

    assert choice.chosen is not None
    assert str(choice.verdicts[0].latency) == "25 ms here"
