"""docs/reliability.md names tests that exist and figures that are those of the code."""

import dataclasses
import importlib
import re
from typing import Any

import pytest

from tests.docs.documents import ROOT, table_below

DOC = ROOT / "docs" / "reliability.md"
UNITS = {
    "": 1,
    "%": 0.01,
    "ms": 0.001,
    "s": 1,
    "min": 60,
    "h": 3600,
    "bytes": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
}
BOUNDS = table_below(DOC, "## Bounds and time-outs")


def names_of_tests() -> set[str]:
    sources = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for source in sources for name in re.findall(r"^ *(?:async )?def (test_\w+)", source, re.MULTILINE)}


def size_of(figure: str) -> float:
    """Return a figure as the code counts it: in seconds, in bytes, or just so."""
    found = re.fullmatch(r"([\d,.]+)(?: (\S+))?", figure)
    assert found, f"{figure!r} is not a figure"
    return float(found[1].replace(",", "")) * UNITS[found[2] or ""]


def constant(place: str) -> float:
    """Return the constant of ``folder/file.py: NAME`` or ``folder/file.py: Class.field``, times in seconds."""
    path, _, name = place.partition(": ")
    value: Any = importlib.import_module("edgeferry." + path.removesuffix(".py").replace("/", "."))
    for part in name.split("."):
        is_class = isinstance(value, type) and dataclasses.is_dataclass(value)
        fields = {field.name: field.default for field in dataclasses.fields(value)} if is_class else vars(value)
        value = fields[part]
    assert isinstance(value, int | float)
    return value * (UNITS["ms"] if name.lower().endswith("_ms") else 1)


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", DOC.read_text()))

    assert len(named) > 50
    assert sorted(named - names_of_tests()) == []


@pytest.mark.parametrize("row", BOUNDS, ids=lambda row: row[2].strip("`"))
def test_a_bound_is_the_codes_own(row: list[str]) -> None:
    _what, figure, place = row

    assert size_of(figure) == pytest.approx(constant(place.strip("`")))


def test_no_bound_stands_there_twice() -> None:
    places = [place for *_, place in BOUNDS]

    assert sorted(places) == sorted(set(places))


@pytest.mark.parametrize("heading", re.findall(r"^## .*", DOC.read_text(), re.MULTILINE)[:7])
def test_every_claim_names_a_test(heading: str) -> None:
    assert [row for row in table_below(DOC, heading) if not re.search(r"`test_\w+`", row[-1])] == []
