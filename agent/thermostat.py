"""How much of the time models may run, so that the processor stays below the heat at which firmware slows it. Pure.

    hot:  the share sinks by a step, down to the least          (at or above `slow_above_c`)
    warm: it stays as it is
    cool: it rises by a step, up to all of the time              (at or below `full_below_c`)

One step at each reading: the heat of a step shows within the ten seconds between two.
"""

from edgeferry.device_profiles.profile import Thermal

__all__ = ["share_after"]

STEP = 0.8


def share_after(policy: Thermal, share: float, temp_c: float | None) -> float:
    """Return the share of the time that models may run from now on, above 0 up to 1.

    Args:
        policy: Of the profile.
        share: Up to now.
        temp_c: Of the processor; None when it cannot be told, and all of the time is given then.
    """
    if temp_c is None:
        return 1.0
    if temp_c >= policy.slow_above_c:
        return max(share * STEP, policy.least_share)
    if temp_c <= policy.full_below_c:
        return min(share / STEP, 1.0)
    return share
