"""Latencies that were measured on real devices, and where a workstation keeps them.

``edgeferry bench`` adds to them, ``edgeferry convert`` prefers them to any other figure. A figure belongs to a model of
one scheme on a kind of device: its next version has other weights, and takes the same time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

__all__ = ["MeasuredLatency", "MeasurementsError", "default_path", "find_similar", "merged", "parse", "read", "spell"]

MAX_FILE_BYTES = 16 * 1024 * 1024
MAX_MEASUREMENTS = 10_000
_FORMAT = 1


class MeasurementsError(ValueError):
    """The file of measurements cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class MeasuredLatency:
    """How fast a model was on a device.

    Attributes:
        profile: Of the device.
        device: Its id.
        model: Name of the model.
        sha256: Of the model's bytes.
        threads: Of the interpreter.
        runs: How many times it was run.
        p50_ms: Median of one run.
        p95_ms: 95 of 100 runs took no longer.
        peak_rss_bytes: The most memory that the process held.
        measured_at: Date and time, ISO 8601 in UTC.
    """

    profile: str
    device: str
    model: str
    version: int
    scheme: str
    sha256: str
    threads: int
    runs: int
    p50_ms: float
    p95_ms: float
    peak_rss_bytes: int
    measured_at: str


@dataclass(frozen=True, slots=True)
class _File:
    format: int
    measurements: tuple[MeasuredLatency, ...]


def default_path(environment: Mapping[str, str]) -> Path:
    """Return where measurements are kept: below XDG_DATA_HOME, or ``~/.local/share`` (XDG Base Directory 0.8)."""
    home = environment.get("XDG_DATA_HOME", "")
    base = Path(home) if home.startswith("/") else Path(environment.get("HOME", "/")) / ".local" / "share"
    return base / "edgeferry" / "measurements.json"


def read(path: Path) -> tuple[MeasuredLatency, ...]:
    """Return what is kept at ``path``, the oldest first; nothing where there is no file.

    Raises:
        MeasurementsError: It cannot be read, or holds something else.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return ()
    except OSError as err:
        raise MeasurementsError(f"{path}: {err.strerror or err}") from err
    return parse(data, str(path))


def parse(data: bytes, where: str) -> tuple[MeasuredLatency, ...]:
    """Return the measurements that ``data`` spells.

    Raises:
        MeasurementsError: It spells something else; ``where`` says what is meant.
    """
    if len(data) > MAX_FILE_BYTES:
        raise MeasurementsError(f"{where}: more than {MAX_FILE_BYTES} bytes; remove it, and measure again")
    try:
        said = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise MeasurementsError(f"{where}: does not hold measurements ({err}); remove it, and measure again") from err
    if said.format != _FORMAT:
        raise MeasurementsError(f"{where}: has format {said.format}, wanted {_FORMAT}; update edgeferry")
    return said.measurements


def spell(measurements: Iterable[MeasuredLatency]) -> bytes:
    """Return ``measurements`` as the bytes of a file."""
    encoded = msgspec.json.encode(_File(_FORMAT, tuple(measurements)))
    return msgspec.json.format(encoded, indent=1) + b"\n"


def merged(known: Iterable[MeasuredLatency], new: MeasuredLatency) -> tuple[MeasuredLatency, ...]:
    """Return ``known`` and ``new``, which takes the place of an older one of the same bytes on the same device."""
    others = [one for one in known if (one.device, one.profile, one.sha256) != (new.device, new.profile, new.sha256)]
    return (*others, new)[-MAX_MEASUREMENTS:]


def find_similar(
    measurements: Iterable[MeasuredLatency], profile: str, model: str, scheme: str
) -> MeasuredLatency | None:
    """Return the newest measurement of a version of ``model`` with this scheme on this kind of device."""
    found = [one for one in measurements if (one.profile, one.model, one.scheme) == (profile, model, scheme)]
    return max(found, key=lambda one: one.measured_at, default=None)
