"""Every error that a user of the converter can meet; the message is fit to be shown as it is.

ConverterError           exit 1
+- RequestError          exit 2   what was asked for makes no sense: an unknown profile, a file that is not there
+- SourceError                    the model file cannot be read, or does not convert
|  +- ConversionDiffersError      it converts, but the result computes something else
+- SamplesError                   the samples are not usable, or do not fit the model
+- QuantizationError              one scheme cannot be made; the others may go on
+- ChildError                     a child process crashed, hung or ended without a result
+- BudgetError                    no scheme keeps the budgets of a profile
+- ArtifactError                  the artifact cannot be written, or a version holds something else already
"""

__all__ = [
    "ArtifactError",
    "BudgetError",
    "ChildError",
    "ConversionDiffersError",
    "ConverterError",
    "QuantizationError",
    "RequestError",
    "SamplesError",
    "SourceError",
    "error_named",
]


class ConverterError(Exception):
    """Root of all errors of the converter."""

    exit_code = 1


class RequestError(ConverterError):
    """What was asked for makes no sense."""

    exit_code = 2


class SourceError(ConverterError):
    """The model file cannot be read, or does not convert."""


class ConversionDiffersError(SourceError):
    """The float ``.tflite`` computes something else than the model that it was made from."""


class SamplesError(ConverterError):
    """The samples are not usable, or do not fit the model."""


class QuantizationError(ConverterError):
    """A scheme cannot be made of this model."""


class ChildError(ConverterError):
    """A child process crashed, hung or ended without a result."""


class BudgetError(ConverterError):
    """No scheme keeps the budgets of a profile."""


class ArtifactError(ConverterError):
    """The artifact cannot be written, or its version holds something else already."""


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


def error_named(name: str, message: str) -> ConverterError:
    """Return the error whose class is called ``name``: how errors cross from a child process."""
    return _KINDS.get(name, ConverterError)(message)
