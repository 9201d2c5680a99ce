"""Every error has a code that stays: the catalogue names them all, and they cross from child processes."""

import re
from pathlib import Path

import pytest

from edgeferry.converter.errors import (
    ArtifactError,
    ChildError,
    Code,
    ConversionDiffersError,
    ConverterError,
    RequestError,
    SamplesError,
    SourceError,
    error_named,
)

CATALOGUE = Path(__file__).parents[2] / "docs" / "converter-errors.md"


def test_the_catalogue_has_every_code_once_in_the_order_of_the_code() -> None:
    assert re.findall(r"^\| `([A-Z_0-9]+)` \|", CATALOGUE.read_text(), re.MULTILINE) == list(Code)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (RequestError, Code.REQUEST_WRONG),
        (SourceError, Code.SOURCE_UNREADABLE),
        (ConversionDiffersError, Code.CONVERSION_DIFFERS),
        (SamplesError, Code.SAMPLES_UNUSABLE),
        (ChildError, Code.CHILD_CRASHED),
        (ArtifactError, Code.ARTIFACT_UNUSABLE),
        (ConverterError, Code.FAILED),
    ],
)
def test_a_kind_has_its_code_unless_a_closer_one_is_given(kind: type[ConverterError], code: Code) -> None:
    assert kind("no").code is code
    assert kind("no", code=Code.LAMBDA_LAYER).code is Code.LAMBDA_LAYER
    assert kind("no").line == f"no [{code}]"


def test_kind_and_code_cross_from_a_child_process() -> None:
    error = error_named("SourceError", "it has a Lambda layer", "LAMBDA_LAYER")

    assert isinstance(error, SourceError)
    assert (str(error), error.code) == ("it has a Lambda layer", Code.LAMBDA_LAYER)


def test_a_kind_that_is_not_known_is_an_error_all_the_same() -> None:
    assert type(error_named("KeyError", "what", "FAILED")) is ConverterError
