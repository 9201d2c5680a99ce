"""How fast a candidate is on a kind of device, as far as anybody knows. Pure.

Measured on such a device (``edgeferry bench``) comes before published by others, and that before this host's own time,
which says nothing of the device and is called what it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from edgeferry.device_profiles import DeviceProfile, Scheme
from edgeferry.device_profiles.measurements import MeasuredLatency, find_similar

__all__ = ["Basis", "Latency", "known_latency"]


class Basis(StrEnum):
    """Where a latency comes from."""

    MEASURED = "measured on the device"
    PUBLISHED = "published"
    HOST = "on this host"


@dataclass(frozen=True, slots=True)
class Latency:
    """The time of one inference.

    Attributes:
        median_ms: Of one inference.
        source: Which device, or who says so; empty for this host.
    """

    median_ms: float
    basis: Basis
    source: str = ""

    @property
    def is_of_device(self) -> bool:
        """Return whether it says something of the device."""
        return self.basis is not Basis.HOST

    def __str__(self) -> str:
        where = {Basis.MEASURED: f"on {self.source}", Basis.PUBLISHED: "published", Basis.HOST: "here"}[self.basis]
        return f"{self.median_ms:.3g} ms {where}"


def known_latency(
    name: str, scheme: Scheme, host_ms: float, profile: DeviceProfile, measurements: Sequence[MeasuredLatency]
) -> Latency:
    """Return the best known latency of a model on devices of ``profile``.

    Args:
        name: Of the model; another version of it with the same scheme takes the same time.
        scheme: Of the candidate.
        host_ms: Median on the build host.
        profile: Of the devices.
        measurements: What was measured so far.
    """
    measured = find_similar(measurements, profile.name, name, scheme)
    if measured is not None:
        return Latency(measured.p50_ms, Basis.MEASURED, measured.device)
    for published in profile.latencies:
        if (published.model.split()[0].lower(), published.scheme) == (name.lower(), scheme):
            return Latency(published.latency_ms, Basis.PUBLISHED, published.source.name)
    return Latency(host_ms, Basis.HOST)
