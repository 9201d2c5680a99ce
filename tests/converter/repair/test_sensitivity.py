"""The layers whose quantization costs most are measured, in a bounded number of runs."""

import pytest

from edgeferry.converter.repair.diagnosis import causes
from edgeferry.converter.repair.making import deviation, outputs_of
from edgeferry.converter.repair.plan import Ranges
from edgeferry.converter.repair.ranges import percentile_range
from edgeferry.converter.repair.sensitivity import groups, worst_layers

from .conftest import Net


@pytest.mark.parametrize(
    ("count", "limit", "sizes"), [(5, 48, [1] * 5), (7, 3, [2, 2, 3]), (0, 3, []), (96, 48, [2] * 48)]
)
def test_neighbours_share_a_measurement_where_there_are_many(count: int, limit: int, sizes: list[int]) -> None:
    scopes = [f"layer {at};" for at in range(count)]

    made = groups(scopes, limit)

    assert [len(group) for group in made] == sizes
    assert [scope for group in made for scope in group] == scopes


def test_layers_that_lose_nothing_are_not_named(plain: Net) -> None:
    base = plain.base()

    worst = worst_layers(base, Ranges.MIN_MAX, plain.samples, outputs_of(base.content, plain.samples))

    assert ("flat;",) not in worst[:2]
    assert 0 < len(worst) <= len(base.graph.operations)


def test_the_worst_layers_in_float_bring_the_model_nearer(rescaled: Net) -> None:
    base = rescaled.base()
    reference = outputs_of(base.content, rescaled.samples)
    worst = worst_layers(base, Ranges.MIN_MAX, rescaled.samples, reference)
    whole = deviation(reference, outputs_of(base.quantized(Ranges.MIN_MAX), rescaled.samples))

    most = [scope for group in worst[: len(worst) - 1] for scope in group]
    mixed = deviation(reference, outputs_of(base.quantized(Ranges.MIN_MAX, most), rescaled.samples))

    assert mixed < whole


def test_channels_that_are_far_apart_are_named_as_the_cause(plain: Net, rescaled: Net) -> None:
    def found(net: Net) -> list[tuple[str, str]]:
        base = net.base()
        usual = {index: percentile_range(one) for index, one in base.histograms.items()}
        named = causes(base.graph, base.links, base.peaks, base.limits, usual)
        return [(cause.kind, cause.layer) for cause in named]

    assert ("channels apart", "second") in found(rescaled)
    assert [kind for kind, _ in found(plain) if kind == "channels apart"] == []
