"""How commands speak: tables and bars for people at a terminal, plain lines in a pipe, JSON for machines.

Results go to standard output, progress and hints to standard error. NO_COLOR is obeyed (no-color.org), by rich.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, Self

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from edgeferry.fleet.push import Progress, Standing

__all__ = [
    "PushDisplay",
    "hint",
    "human_bytes",
    "human_duration",
    "meter",
    "print_json",
    "print_table",
    "push_display",
    "table",
]


def print_json(value: Any) -> None:
    """Print ``value`` as indented JSON; dataclasses and messages become objects."""
    click.echo(json.dumps(msgspec.to_builtins(value, str_keys=True), indent=2))


def hint(text: str) -> None:
    """Say something to the person, not to whoever reads the result."""
    click.echo(text, err=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table of texts for a terminal; markup in them is shown as it is."""
    made = Table(title=title or None, title_justify="left", header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(cell.replace("[", "\\[") for cell in row))
    return made


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: with lines at a terminal, in plain columns elsewhere."""
    if sys.stdout.isatty():
        Console().print(table("", columns, rows))
        return
    lines = [columns, *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def human_bytes(size_bytes: int) -> str:
    """Return a size as a person says it, in powers of ten."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def human_duration(seconds: float) -> str:
    """Return a duration as a person says it: its two largest units."""
    whole = int(seconds)
    for unit, size, below, below_size in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // below_size} {below}"
    return f"{whole} s"


@contextmanager
def meter(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield what shows how many bytes of how many were moved: a bar at a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    with Bars(BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        task: TaskID | None = None

        def show(done: int, total: int) -> None:
            nonlocal task
            task = bars.add_task("", total=total) if task is None else task
            bars.update(task, completed=done, total=total)

        yield show


class PushDisplay(Protocol):
    """Shows how a push goes on."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, *_: object) -> None:
        """End, leaving the last state on the screen."""
        ...

    def show(self, progress: Mapping[str, Progress]) -> None:
        """Show how far each device is."""
        ...


def push_display(*, quiet: bool) -> PushDisplay:
    """Return bars for a terminal, lines for a pipe, nothing when ``quiet``."""
    if quiet:
        return _Silence()
    return _PushBars() if sys.stderr.isatty() else _PushLines()


class _Silence:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, progress: Mapping[str, Progress]) -> None:
        pass


class _PushLines(_Silence):
    """One line whenever a device enters another phase."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def show(self, progress: Mapping[str, Progress]) -> None:
        for device, one in progress.items():
            line = _line(one)
            if self._said.get(device) != line:
                self._said[device] = line
                hint(f"{device}: {line}")


class _PushBars:
    """A bar per device."""

    def __init__(self) -> None:
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[line]}", markup=False),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, progress: Mapping[str, Progress]) -> None:
        for device, one in progress.items():
            if device not in self._tasks:
                self._tasks[device] = self._bars.add_task(device, total=None, line="")
            done = 1 if one.standing is Standing.ACTIVE else None
            total, completed = (one.total_bytes, one.done_bytes) if one.total_bytes else (done, done)
            self._bars.update(self._tasks[device], total=total, completed=completed, line=_line(one))


def _line(progress: Progress) -> str:
    if progress.standing is Standing.FAILED:
        return progress.reason
    word = progress.phase if progress.standing is Standing.WORKING else str(progress.standing)
    return f"{word} ({progress.reason})" if progress.reason else word
