"""Channels are rescaled between layers so that int8 serves them all, and the float model answers as before."""

import numpy as np
import pytest

from edgeferry.converter.repair.equalization import channel_scales, rescale
from edgeferry.converter.repair.graph import FloatGraph
from edgeferry.converter.repair.links import find_links
from edgeferry.converter.repair.making import deviation, outputs_of
from edgeferry.converter.repair.plan import Ranges

from .conftest import Net, answers


def error(net: Net, content: bytes) -> float:
    return deviation(outputs_of(net.base().content, net.samples), outputs_of(content, net.samples))


def test_a_scale_shares_the_range_between_activation_and_weights() -> None:
    peaks, reach = np.array([100, 1, 4], np.float32), np.array([1, 1, 4], np.float32)

    scales = channel_scales(peaks, reach)

    shares = (peaks / scales) / (reach * scales)
    np.testing.assert_allclose(shares, shares[0], rtol=1e-6)
    assert np.prod(scales) == pytest.approx(1)


@pytest.mark.parametrize(("peak", "reach"), [(0, 1), (1, 0), (np.inf, 1), (1, np.nan)])
def test_a_dead_channel_stays_as_it_is(peak: float, reach: float) -> None:
    scales = channel_scales(np.array([peak, 8, 2], np.float32), np.array([reach, 2, 2], np.float32))

    assert scales[0] == 1
    np.testing.assert_allclose(scales[1:], [2**0.5, 0.5**0.5], rtol=1e-6)


def test_a_rescaled_net_is_the_plain_one_to_float(plain: Net, rescaled: Net) -> None:
    np.testing.assert_allclose(answers(rescaled), answers(plain), rtol=1e-3, atol=1e-4)


def test_plain_int8_cannot_serve_rescaled_channels(plain: Net, rescaled: Net) -> None:
    assert error(plain, plain.base().quantized(Ranges.MIN_MAX)) < 0.01
    assert error(rescaled, rescaled.base().quantized(Ranges.MIN_MAX)) > 0.3


def test_equalized_int8_is_as_good_as_that_of_the_plain_net(plain: Net, rescaled: Net) -> None:
    repaired = rescaled.base().equalized().quantized(Ranges.MIN_MAX)

    assert error(rescaled, repaired) < 2 * error(plain, plain.base().quantized(Ranges.MIN_MAX))


def test_the_equalized_float_model_gives_the_same_bits(rescaled: Net) -> None:
    base = rescaled.base()

    before, after = outputs_of(base.content, rescaled.samples), outputs_of(base.equalized().content, rescaled.samples)

    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_every_kind_of_link_can_be_rescaled_without_a_change(plain: Net, at: int) -> None:
    base = plain.base()
    graph = FloatGraph.of(base.content)
    link = find_links(graph)[at]

    rescale(graph, link, np.exp2(np.arange(link.channels) - 4).astype(np.float32))

    assert graph.to_bytes() != base.content
    np.testing.assert_array_equal(outputs_of(graph.to_bytes(), plain.samples), outputs_of(base.content, plain.samples))
