"""Every error that a user of the converter can meet; the message is fit to be shown as it is.

Beside its kind, which decides the exit code, each has a code that stays the same when sentences change: to search for,
and to tell in scripts. `docs/converter-errors.md` is their catalogue.

ConverterError           exit 1
+- RequestError          exit 2   what was asked for makes no sense: an unknown profile, a file that is not there
+- SourceError                    the model file cannot be read, or does not convert
|  +- ConversionDiffersError      it converts, but the result computes something else
+- SamplesError                   the samples are not usable, or do not fit the model
+- QuantizationError              one scheme cannot be made; the others may go on
+- ChildError                     a child process hung or ended without a result
|  +- CrashError                  a signal ended it
+- BudgetError                    no scheme keeps the budgets of a profile
+- ArtifactError                  the artifact cannot be written, or a version holds something else already
"""

from enum import StrEnum

__all__ = [
    "ArtifactError",
    "BudgetError",
    "ChildError",
    "Code",
    "ConversionDiffersError",
    "ConverterError",
    "CrashError",
    "QuantizationError",
    "RequestError",
    "SamplesError",
    "SourceError",
    "error_named",
]


class Code(StrEnum):
    """What is wrong, in a word that stays the same."""

    # what was asked for
    REQUEST_WRONG = "REQUEST_WRONG"
    # the source
    SOURCE_UNREADABLE = "SOURCE_UNREADABLE"
    CUSTOM_CLASS = "CUSTOM_CLASS"
    LAMBDA_LAYER = "LAMBDA_LAYER"
    SUBCLASSED_MODEL = "SUBCLASSED_MODEL"
    CUSTOM_OPERATION = "CUSTOM_OPERATION"
    NOT_NUMBERS = "NOT_NUMBERS"
    NOT_FINITE = "NOT_FINITE"
    BATCH_FIXED = "BATCH_FIXED"
    SIGNATURE_UNCLEAR = "SIGNATURE_UNCLEAR"
    QUANTIZED_ALREADY = "QUANTIZED_ALREADY"
    # its conversion
    OP_NOT_SUPPORTED = "OP_NOT_SUPPORTED"
    SELECT_TF_NOT_ALLOWED = "SELECT_TF_NOT_ALLOWED"
    SELECT_TF_NOT_RUNNABLE = "SELECT_TF_NOT_RUNNABLE"
    CONTROL_FLOW_V1 = "CONTROL_FLOW_V1"
    OPEN_DIMENSION = "OPEN_DIMENSION"
    CONVERTER_FAILED = "CONVERTER_FAILED"
    RESULT_UNUSABLE = "RESULT_UNUSABLE"
    CONVERSION_DIFFERS = "CONVERSION_DIFFERS"
    # samples, schemes, budgets
    SAMPLES_UNUSABLE = "SAMPLES_UNUSABLE"
    QUANTIZER_REFUSED = "QUANTIZER_REFUSED"
    NO_SCHEME_FITS = "NO_SCHEME_FITS"
    # training
    TRAINING_DIVERGED = "TRAINING_DIVERGED"
    WORKER_MISSING = "WORKER_MISSING"
    WORKER_LOST = "WORKER_LOST"
    # processes and files
    CHILD_CRASHED = "CHILD_CRASHED"
    CHILD_TOO_SLOW = "CHILD_TOO_SLOW"
    ARTIFACT_UNUSABLE = "ARTIFACT_UNUSABLE"
    FAILED = "FAILED"


class ConverterError(Exception):
    """Root of all errors of the converter.

    Args:
        message: A sentence for the person who reads it.
        code: What is wrong; that of the kind unless given.
    """

    exit_code = 1
    code = Code.FAILED

    def __init__(self, message: str, *, code: Code | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code

    @property
    def line(self) -> str:
        """Return what a command ends with: the sentence and, in brackets, the code."""
        return f"{self} [{self.code}]"


class RequestError(ConverterError):
    """What was asked for makes no sense."""

    exit_code = 2
    code = Code.REQUEST_WRONG


class SourceError(ConverterError):
    """The model file cannot be read, or does not convert."""

    code = Code.SOURCE_UNREADABLE


class ConversionDiffersError(SourceError):
    """The float ``.tflite`` computes something else than the model that it was made from."""

    code = Code.CONVERSION_DIFFERS


class SamplesError(ConverterError):
    """The samples are not usable, or do not fit the model."""

    code = Code.SAMPLES_UNUSABLE


class QuantizationError(ConverterError):
    """A scheme cannot be made of this model."""

    code = Code.QUANTIZER_REFUSED


class ChildError(ConverterError):
    """A child process crashed, hung or ended without a result."""

    code = Code.CHILD_CRASHED


class CrashError(ChildError):
    """A child process was ended by a signal.

    Args:
        what: What it was doing, with the signal and the step: "converting cats crashed with SIGABRT while running it".
        words: The last that it said; empty where it said nothing.
        where: In which operation that was; empty where nobody knows.
        remedy: One thing to do.
    """

    def __init__(self, what: str, words: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.words = words
        said = f": {words}" if words else ""
        todo = f"; {remedy}" if remedy else ""
        super().__init__(f"{what}{where}{said}{todo}")


class BudgetError(ConverterError):
    """No scheme keeps the budgets of a profile."""

    code = Code.NO_SCHEME_FITS


class ArtifactError(ConverterError):
    """The artifact cannot be written, or its version holds something else already."""

    code = Code.ARTIFACT_UNUSABLE


_KINDS = {
    kind.__name__: kind
    for kind in (
        RequestError,
        SourceError,
        ConversionDiffersError,
        SamplesError,
        QuantizationError,
        ChildError,
        BudgetError,
        ArtifactError,
    )
}


def error_named(name: str, message: str, code: str) -> ConverterError:
    """Return the error whose class is called ``name``: how errors cross from a child process."""
    return _KINDS.get(name, ConverterError)(message, code=Code(code))
