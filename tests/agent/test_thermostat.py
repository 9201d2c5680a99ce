"""How much models may run on a hot board."""

import pytest

from edgeferry.agent.thermostat import share_after
from edgeferry.device_profiles.profile import Thermal

POLICY = Thermal(slow_above_c=75, full_below_c=65, least_share=0.3)


@pytest.mark.parametrize(
    ("share", "temp_c", "then"),
    [
        (1.0, 75.0, 0.8),
        (0.32, 90.0, 0.3),
        (0.3, 90.0, 0.3),
        (0.5, 70.0, 0.5),
        (0.8, 65.0, 1.0),
        (0.4, 20.0, 0.5),
        (0.4, None, 1.0),
    ],
)
def test_the_share_sinks_while_it_is_hot_and_rises_when_it_is_cool(
    share: float, temp_c: float | None, then: float
) -> None:
    assert share_after(POLICY, share, temp_c) == pytest.approx(then)


def test_between_both_temperatures_it_settles() -> None:
    share, temp_c = 1.0, 80.0
    for _ in range(50):
        share = share_after(POLICY, share, temp_c)
        temp_c = 50.0 + 35.0 * share  # more work, more heat

    assert POLICY.full_below_c < temp_c < POLICY.slow_above_c
