"""One conversion from the source model to the artifact folders, all profiles at once.

    convert the source -> per variant: make and measure -> evaluate -> per profile: choose, repair -> write

Each variant is made once, whichever profiles want it. Nothing is written below the output folder before every profile
has its artifact; what is in between stands in a temporary folder.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

from edgeferry.converter.artifact import check_writable, next_version, write_version
from edgeferry.converter.binder import Binder, Conversion, Told
from edgeferry.converter.errors import BudgetError, ConverterError, RequestError
from edgeferry.converter.formats.registry import Format, FormatName, detect
from edgeferry.converter.labels import check_labels, read_labels
from edgeferry.converter.preparing.source import prepare, told_by_source
from edgeferry.converter.preprocessing_file import read_preprocessing
from edgeferry.converter.rejects import keep_rejected
from edgeferry.converter.request import ConversionRequest, check_request
from edgeferry.converter.samples import Samples
from edgeferry.converter.stages import Stages
from edgeferry.converter.stock import Stock
from edgeferry.converter.workshop import Progress, Workshop

__all__ = ["Conversion", "RejectedError", "convert"]


class RejectedError(BudgetError):
    """At least one profile has no scheme that keeps its budgets; no version was written.

    Attributes:
        conversion: What was tried, with each verdict.
    """

    def __init__(self, conversion: Conversion, kept: Path | None) -> None:
        self.conversion = conversion
        failed = [choice for choice in conversion.choices if choice.chosen is None]
        sentences = [f"no scheme keeps the budgets of {choice.profile}: {choice.nearest_miss()}" for choice in failed]
        end = "nothing was written" if kept is None else f"its candidates are in {kept}"
        super().__init__("; ".join([*sentences, end]))


def convert(request: ConversionRequest, progress: Progress, stages: Stages | None = None) -> Conversion:
    """Return the conversion that ``request`` asks for, its artifacts written.

    Args:
        request: What to do.
        progress: Called with a sentence at each step.
        stages: Does the work in child processes; by default without a cache.

    Raises:
        RejectedError: No scheme keeps the budgets of a profile.
        ConverterError: Anything else that a user can understand; see `errors`. Nothing was written.
    """
    check_request(request)
    check_writable(request.output / request.name)
    _check_trainable(request, detect(request.model))
    labels = read_labels(request.labels) if request.labels else ()  # a mistake shall be said before minutes of work
    preprocessing = read_preprocessing(request.preprocessing) if request.preprocessing else None
    stages = stages or Stages()
    try:
        with tempfile.TemporaryDirectory(prefix="edgeferry-convert-") as folder:
            ready = _prepared(request, stages, Path(folder), progress)
            with told_by_source(_sources(request, ready)):
                told = Told(labels, preprocessing)
                return _converted(request, ready, told, progress, stages=stages, folder=Path(folder))
    except OSError as err:
        where = err.filename or tempfile.gettempdir()
        raise ConverterError(f"{where}: {err.strerror or err}; the conversion needs room there") from err


def _converted(
    request: ConversionRequest,
    ready: ConversionRequest,
    told: Told,
    progress: Progress,
    *,
    stages: Stages,
    folder: Path,
) -> Conversion:
    """Return the conversion whose samples can be read as ``ready`` says."""
    source_format = detect(request.model)
    samples = _load_samples(ready, request)
    workshop = Workshop(ready, samples, folder, progress, stages)
    float_model = workshop.make_float(source_format)
    told = replace(told, labels=told.labels or samples.classes)
    if told.labels:
        whose = f"--labels {request.labels}" if request.labels else f"the classes of {request.judged_by}"
        check_labels(whose, told.labels, float_model.measurement.outputs)
    stock = Stock(ready, workshop, float_model)
    stock.make_plain()
    conversion = _concluded(request, stock)
    binder = Binder(request, conversion, samples, stages, told=told, ready=ready, folder=folder / "bound")
    binder.look(float_model, stock, progress)
    progress(f"writing {conversion.folder}")
    write_version(conversion.folder, binder.drafts(source_format, stock))
    return conversion


def _sources(request: ConversionRequest, ready: ConversionRequest) -> dict[Path, Path]:
    """Return where the samples of each source can be read."""
    pairs = (request.calibration, ready.calibration), (request.evaluation, ready.evaluation)
    return {source: made for source, made in pairs if source is not None and made is not None}


def _prepared(request: ConversionRequest, stages: Stages, folder: Path, say: Progress) -> ConversionRequest:
    """Return the request with samples that can be read, each source of them prepared once."""
    ready: dict[Path, Path] = {}
    for source in (request.calibration, request.evaluation):
        if source is not None and source not in ready:
            made = folder / f"samples-{len(ready)}"
            ready[source] = prepare(
                stages,
                source,
                preprocessing=request.preprocessing,
                classes=request.labels,
                folder=made,
                say=say,
                deadline_s=request.deadline_s,
            )
    calibration, evaluation = (
        None if source is None else ready[source] for source in (request.calibration, request.evaluation)
    )
    return replace(request, calibration=calibration, evaluation=evaluation)


def _check_trainable(request: ConversionRequest, source_format: Format) -> None:
    if request.trains and source_format.name not in (FormatName.KERAS, FormatName.HDF5):
        raise RequestError(
            f"{request.model}: is a {source_format.title}; --allow-training needs the Keras model that it was made of, "
            ".keras or .h5"
        )


def _load_samples(request: ConversionRequest, given: ConversionRequest) -> Samples:
    """Return the samples by which candidates are judged; what is wrong shall be said before minutes of work."""
    judged_by = Samples.load(request.judged_by)
    if request.calibration is not None and request.calibration != request.judged_by:
        calibration = Samples.load(request.calibration)
        odd = set(calibration.classes) ^ set(judged_by.classes)
        if calibration.classes and judged_by.classes and odd:
            raise RequestError(
                f"{given.calibration} and {given.evaluation} have folders for different classes: only one has "
                f"{min(odd)!r}; name all classes, in the order of the model's output, in --labels"
            )
    return judged_by


def _concluded(request: ConversionRequest, stock: Stock) -> Conversion:
    choices = tuple(stock.choice_for(profile) for profile in request.profiles)
    home = request.output / request.name
    version = next_version(home) if request.version is None else request.version
    conversion = Conversion(request.name, version, home / str(version), choices, request.is_held_out)
    if any(choice.chosen is None for choice in choices):
        kept = keep_rejected(conversion.folder, choices, stock) if request.keeps_rejected else None
        raise RejectedError(conversion, kept)
    return conversion
