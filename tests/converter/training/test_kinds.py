"""What is known of kinds of layers."""

import pytest

from edgeferry.converter.training.kinds import Role, channel_axes, keeps_channels, role_of


@pytest.mark.parametrize(
    ("kind", "role"),
    [
        ("Conv2D", Role.WEIGHTED),
        ("Add", Role.COMPUTING),
        ("ReLU", Role.ACTIVATION),
        ("Flatten", Role.PASSING),
        ("AveragePooling2D", Role.MIXING),
        ("LSTM", Role.UNKNOWN),
    ],
)
def test_each_kind_has_a_role(kind, role):
    assert role_of(kind) is role


@pytest.mark.parametrize(
    ("kind", "does"), [("Add", True), ("MaxPooling2D", True), ("Reshape", False), ("Dense", False)]
)
def test_it_is_known_what_leaves_channels_where_they_are(kind, does):
    assert keeps_channels(kind) is does


@pytest.mark.parametrize(
    ("kind", "rank", "axes"),
    [("Dense", 2, (1,)), ("Conv2D", 4, (3,)), ("DepthwiseConv2D", 4, (2, 3)), ("Conv2DTranspose", 4, (2,))],
)
def test_the_axes_of_a_kernel_that_count_channels_are_those_of_keras(kind, rank, axes):
    assert channel_axes(kind, rank) == axes
