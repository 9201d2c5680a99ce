"""One conversion from the source model to the artifact folders, all profiles at once.

    convert the source -> per variant: make and measure -> evaluate -> per profile: choose, repair -> write

Each variant is made once, whichever profiles want it. Nothing is written below the output folder before every profile
has its artifact; what is in between stands in a temporary folder.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeferry.converter.artifact import Draft, check_writable, manifest_blob, next_version, write_version
from edgeferry.converter.errors import BudgetError, ConverterError
from edgeferry.converter.formats.registry import Format, detect
from edgeferry.converter.report import evaluation_summary, host, provenance, report
from edgeferry.converter.request import ConversionRequest, check_request
from edgeferry.converter.samples import Samples
from edgeferry.converter.schemes import selftest_spec
from edgeferry.converter.selection import Choice
from edgeferry.converter.stock import Stock
from edgeferry.converter.workshop import Made, Progress, Workshop
from edgeferry.wire.desired import FORMAT, ROLE_MODEL, ROLE_SELFTEST, ArtifactManifest

__all__ = ["Conversion", "RejectedError", "convert"]


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion came to.

    Attributes:
        folder: DIR/NAME/N.
        choices: One per profile, in the order asked for.
        is_held_out: Whether candidates were judged by samples that calibration has not seen.
    """

    name: str
    version: int
    folder: Path
    choices: tuple[Choice, ...]
    is_held_out: bool


class RejectedError(BudgetError):
    """At least one profile has no scheme that keeps its budgets; nothing was written.

    Attributes:
        conversion: What was tried, with each verdict.
    """

    def __init__(self, conversion: Conversion) -> None:
        self.conversion = conversion
        failed = [choice for choice in conversion.choices if choice.chosen is None]
        sentences = [f"no scheme keeps the budgets of {choice.profile}: {choice.nearest_miss()}" for choice in failed]
        super().__init__("; ".join([*sentences, "nothing was written"]))


def convert(request: ConversionRequest, progress: Progress) -> Conversion:
    """Return the conversion that ``request`` asks for, its artifacts written.

    Args:
        request: What to do.
        progress: Called with a sentence at each step.

    Raises:
        RejectedError: No scheme keeps the budgets of a profile.
        ConverterError: Anything else that a user can understand; see `errors`. Nothing was written.
    """
    check_request(request)
    check_writable(request.output / request.name)
    source_format = detect(request.model)
    samples = _load_samples(request)
    try:
        with tempfile.TemporaryDirectory(prefix="edgeferry-convert-") as folder:
            workshop = Workshop(request, samples, Path(folder), progress)
            float_model = workshop.make_float(source_format)
            stock = Stock(request, workshop, float_model)
            stock.make_plain()
            conversion = _concluded(request, [stock.choice_for(profile) for profile in request.profiles])
            progress(f"writing {conversion.folder}")
            write_version(conversion.folder, _drafts(request, conversion, stock, source_format))
    except OSError as err:
        where = err.filename or tempfile.gettempdir()
        raise ConverterError(f"{where}: {err.strerror or err}; the conversion needs room there") from err
    return conversion


def _load_samples(request: ConversionRequest) -> Samples:
    if request.calibration is not None:
        Samples.load(request.calibration)  # what is wrong with it shall be said before minutes of work
    return Samples.load(request.judged_by)


def _concluded(request: ConversionRequest, choices: Sequence[Choice]) -> Conversion:
    home = request.output / request.name
    version = next_version(home) if request.version is None else request.version
    conversion = Conversion(request.name, version, home / str(version), tuple(choices), request.is_held_out)
    if any(choice.chosen is None for choice in choices):
        raise RejectedError(conversion)
    return conversion


def _drafts(request: ConversionRequest, conversion: Conversion, stock: Stock, source_format: Format) -> list[Draft]:
    facts = {
        "name": conversion.name,
        "version": conversion.version,
        "max_drop": request.max_drop,
        "source": {"format": source_format.title, **provenance(request.model)},
        "calibration": provenance(request.calibration) if request.calibration else None,
        "evaluation": {"held_out": conversion.is_held_out, **provenance(request.judged_by)},
        "host": host(),
    }
    return [
        _draft(conversion, choice, stock.of(choice.chosen), report(choice, facts=facts))
        for choice in conversion.choices
        if choice.chosen is not None
    ]


def _draft(conversion: Conversion, choice: Choice, made: Made, story: Mapping[str, Any]) -> Draft:
    measurement = made.measurement
    files = {ROLE_MODEL: made.model, ROLE_SELFTEST: measurement.selftest}
    scheme = made.variant.stored_as
    manifest = ArtifactManifest(
        format=FORMAT,
        name=conversion.name,
        version=conversion.version,
        profile=choice.profile,
        scheme=scheme,
        blobs=tuple(manifest_blob(role, path) for role, path in files.items()),
        inputs=measurement.inputs,
        outputs=measurement.outputs,
        selftest=selftest_spec(scheme, samples=measurement.selftest_samples, peak=measurement.peak),
        memory_bytes=measurement.memory_bytes,
        evaluation=evaluation_summary(made.candidate),
    )
    return Draft(manifest, files, story)
