"""Rows of measurements in text files with commas, cut into windows of some columns.

A window never spans two groups or two labels: where either changes, a new one begins.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.errors import SamplesError
from edgeferry.device_profiles.reader import suggestion
from edgeferry.inference.preprocessing import SeriesPreprocessing

__all__ = ["Window", "label_names", "read_windows"]

_MAX_LABELS = 10_000
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Window:
    """Some rows, [1, window, columns], or one, [1, columns], and what the label column says of them."""

    values: NDArray[np.float32]
    label: str


@dataclass(frozen=True, slots=True)
class _Row:
    """A row as it is read; ``where`` names file and line."""

    where: str
    values: Sequence[str]
    group: str
    label: str


def read_windows(path: Path, declared: SeriesPreprocessing) -> Iterator[Window]:
    """Yield the windows of a file.

    Raises:
        SamplesError: It is damaged, lacks a column, holds what is no number, or has too few rows for a window.
    """
    kept: list[list[float]] = []
    before: _Row | None = None
    length, longest, found = declared.window or 1, 0, 0
    for row in _rows(path, declared):
        if before is not None and (row.group, row.label) != (before.group, before.label):
            kept = []
        before = row
        kept.append(_numbers(row, declared))
        longest = max(longest, len(kept))
        if len(kept) == length:
            values = np.asarray(kept, np.float32)
            yield Window(values[np.newaxis] if declared.window else values, row.label)
            found += 1
            kept = kept[declared.hop :]
    if not found:
        raise SamplesError(f"{path}: has {longest} rows on end at most, a window wants {length}; remove it")


def label_names(paths: Sequence[Path], declared: SeriesPreprocessing) -> tuple[str, ...]:
    """Return the sorted names in the label column of all files; none where all are whole numbers.

    Raises:
        SamplesError: See `read_windows`; or they are more than anybody has classes.
    """
    names: set[str] = set()
    for path in paths:
        for row in _rows(path, declared):
            names.add(row.label)
            if len(names) > _MAX_LABELS:
                raise SamplesError(
                    f"{row.where}: {declared.label!r} has more than {_MAX_LABELS} values; wanted classes"
                )
    return () if all(name.isdecimal() for name in names) else tuple(sorted(names))


def _rows(path: Path, declared: SeriesPreprocessing) -> Iterator[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _parsed(path, file, declared)
    except (csv.Error, UnicodeDecodeError) as err:
        raise SamplesError(
            f"{path}: cannot be read as a table: {err}; save it as UTF-8 text with one row a line"
        ) from err


def _parsed(path: Path, file: TextIO, declared: SeriesPreprocessing) -> Iterator[_Row]:
    lines = csv.reader(file, delimiter=declared.delimiter, strict=True)
    header = [name.strip() for name in next(lines, [])]
    places = [_place(path, header, name) for name in declared.columns]
    label = _place(path, header, declared.label) if declared.label else None
    group = _place(path, header, declared.group) if declared.group else None
    for fields in lines:
        where = f"{path}:{lines.line_num}"
        if not fields:
            continue  # an empty line
        if len(fields) != len(header):
            raise SamplesError(f"{where}: has {len(fields)} values, the first line names {len(header)} columns")
        belongs = ["" if place is None else fields[place].strip() for place in (group, label)]
        if label is not None and not belongs[1]:
            raise SamplesError(f"{where}: column {declared.label!r} is empty; fill it, or remove the row")
        yield _Row(where, [fields[place] for place in places], *belongs)


def _place(path: Path, header: list[str], name: str) -> int:
    if header.count(name) != 1:
        many = "names it twice" if name in header else f"has none{suggestion(name, header) if header else ''}"
        raise SamplesError(f"{path}:1: preprocessing wants a column {name!r}, but the first line {many}")
    return header.index(name)


def _numbers(row: _Row, declared: SeriesPreprocessing) -> list[float]:
    numbers = []
    for name, text in zip(declared.columns, row.values, strict=True):
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or abs(number) > _LARGEST:
            raise SamplesError(f"{row.where}: column {name!r} holds {text[:40]!r}; wanted a number: fill or remove it")
        numbers.append(number)
    return numbers
