"""Has a device measure a model that it has, and keeps the figure for the next conversion."""

from datetime import datetime
from pathlib import Path

import msgspec

from edgeferry.device_profiles.measurements import MeasuredLatency, MeasurementsError, merged, read, spell
from edgeferry.fleet.artifacts import read_artifacts
from edgeferry.fleet.asking import ask
from edgeferry.fleet.errors import FleetError, UsageError
from edgeferry.fleet.files import make_folder, write_atomically
from edgeferry.fleet.operator import Operator
from edgeferry.wire.bench import BenchParameters, BenchReport
from edgeferry.wire.codec import WireError, decode
from edgeferry.wire.desired import ROLE_MODEL
from edgeferry.wire.topics import Topics, check_name

__all__ = ["Subject", "keep", "measured_on", "subject_named"]

PATIENCE_S = 120.0  # for a deployment that comes first, and for loading the model


class Subject(msgspec.Struct, frozen=True):
    """What is to be measured.

    Attributes:
        version: 0 for the active one.
        sha256: Of the model's bytes, where they are known; empty otherwise.
    """

    model: str
    version: int = 0
    sha256: str = ""


def subject_named(name: str, profile: str) -> Subject:
    """Return what ``name`` means on a device of ``profile``: MODEL, MODEL:VERSION, or a folder DIR/NAME/N.

    Raises:
        UsageError: It means nothing.
        ArtifactError: It is a folder, but no artifact.
    """
    if Path(name).is_dir():
        return _subject_in(Path(name), profile)
    model, colon, version = name.partition(":")
    if colon and not (version.isascii() and version.isdecimal() and 0 < int(version) <= 2**53):
        raise UsageError(f"{name}: version {version!r}; wanted MODEL, MODEL:VERSION or a folder DIR/NAME/N")
    try:
        return Subject(check_name(model), int(version or 0))
    except WireError as err:
        raise UsageError(f"{name}: is neither a folder nor the name of a model: {err}") from err


def measured_on(
    operator: Operator, topics: Topics, device: str, subject: Subject, *, seconds: float, now: datetime
) -> MeasuredLatency:
    """Return how fast ``subject`` is on ``device``, which measures it for ``seconds``.

    Raises:
        FleetError: The device does not answer, refuses, or has other bytes under that name and version.
    """
    parameters = BenchParameters(model=subject.model, version=subject.version, seconds=seconds)
    answer = ask(
        operator,
        topics,
        device,
        "bench",
        parameters=msgspec.to_builtins(parameters),
        timeout_s=seconds + PATIENCE_S,
    )
    if answer.error:
        raise FleetError(f"{device}: {answer.error.reason}: {answer.error.detail}")
    report = _report(bytes(answer.ok) if isinstance(answer.ok, msgspec.Raw) else b"", device)
    if subject.sha256 and report.sha256 != subject.sha256:
        raise FleetError(
            f"{device} has other bytes as {report.model} {report.version}: SHA-256 {report.sha256[:12]}, "
            f"the folder has {subject.sha256[:12]}; push the folder first"
        )
    return MeasuredLatency(
        profile=report.profile,
        device=device,
        model=report.model,
        version=report.version,
        scheme=report.scheme,
        sha256=report.sha256,
        threads=report.threads,
        runs=report.runs,
        p50_ms=report.p50_ms,
        p95_ms=report.p95_ms,
        peak_rss_bytes=report.peak_rss_bytes,
        measured_at=now.isoformat(timespec="seconds"),
    )


def keep(measurement: MeasuredLatency, path: Path) -> None:
    """Add ``measurement`` to those at ``path``.

    Raises:
        FleetError: What is there cannot be read, or the disk refuses.
    """
    try:
        known = read(path)
    except MeasurementsError as err:
        raise FleetError(str(err)) from err
    make_folder(path.parent)
    write_atomically(path, spell(merged(known, measurement)))


def _subject_in(folder: Path, profile: str) -> Subject:
    artifacts = {artifact.manifest.profile: artifact.manifest for artifact in read_artifacts(folder)}
    manifest = artifacts.get(profile)
    if manifest is None:
        raise UsageError(f"{folder}: has artifacts for {', '.join(artifacts)}, the device is a {profile}")
    return Subject(manifest.name, manifest.version, manifest.blob(ROLE_MODEL).sha256)


def _report(data: bytes, device: str) -> BenchReport:
    try:
        return decode(BenchReport, data)
    except WireError as err:
        raise FleetError(f"{device} answered with something else: {err}") from err
