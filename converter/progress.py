"""What a conversion says while it works: a sentence for each step, and a bar with the time left for what takes longer.

On a terminal the bar is drawn by rich, from the second second of a step on; elsewhere a plain line is written at most
every ten seconds, so that a log stays readable.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

import click

from edgeferry.converter.child import Step

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

__all__ = ["Face", "LineFace", "Pace", "TerminalFace", "face_for"]

PATIENCE_S = 2.0  # what is over sooner needs no bar
_LINE_EVERY_S = 10.0
_FEW = 3  # done before a rate is worth a guess


class Face(Protocol):
    """Where progress is shown."""

    def say(self, sentence: str) -> None:
        """Show that a new piece of work begins."""
        ...

    def watch(self, step: Step) -> None:
        """Show how far a child is; several may run at the same time, each told from a thread of its own."""
        ...


class Pace:
    """How long the current step has taken, and how long it will; time is a number that the caller gives."""

    def __init__(self) -> None:
        self._name = ""
        self._begun_s = 0.0
        self._done = 0

    def elapsed_s(self, step: Step, now_s: float) -> float:
        """Return for how long ``step`` has been going on; a step of another name begins now."""
        if step.name != self._name or step.done < self._done:
            self._name, self._begun_s = step.name, now_s
        self._done = step.done
        return now_s - self._begun_s

    def left_s(self, step: Step, now_s: float) -> float | None:
        """Return how long ``step`` will still take at its pace so far; None where that is not known."""
        elapsed_s = self.elapsed_s(step, now_s)
        if not _FEW <= step.done <= step.total or elapsed_s <= 0:
            return None
        return elapsed_s * (step.total - step.done) / step.done


class LineFace:
    """Plain lines, for whatever is no terminal."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._paces: defaultdict[str, Pace] = defaultdict(Pace)
        self._spoken_s = clock()

    def say(self, sentence: str) -> None:
        """Write ``sentence`` as a line."""
        self._write(sentence)

    def watch(self, step: Step) -> None:
        """Write a line now and then."""
        if not step.name:
            self._paces.pop(step.child, None)
            return
        now_s = self._clock()
        left_s = self._paces[step.child].left_s(step, now_s)
        if now_s - self._spoken_s < _LINE_EVERY_S:
            return
        counted = f", {step.done} of {step.total}" if step.total else ""
        left = f", {_spelled(left_s)} left" if left_s is not None else ""
        self._write(f"still {step.name}{counted}{left}")

    def _write(self, line: str) -> None:
        self._spoken_s = self._clock()
        click.echo(line, file=self._stream, err=True)


class TerminalFace:
    """Sentences, and below them a bar for each child that takes longer; it goes when its step is over."""

    def __init__(self, bars: "Bars", clock: Callable[[], float] = time.monotonic) -> None:
        self._bars = bars
        self._clock = clock
        self._paces: defaultdict[str, Pace] = defaultdict(Pace)
        self._tasks: dict[str, TaskID] = {}

    def say(self, sentence: str) -> None:
        """Print ``sentence`` above the bars."""
        self._bars.console.print(sentence, highlight=False, markup=False, soft_wrap=True)

    def watch(self, step: Step) -> None:
        """Move the bar of a child."""
        if not step.name:
            self._paces.pop(step.child, None)
            self._clear(step.child)
            return
        now_s = self._clock()
        pace = self._paces[step.child]
        left_s = pace.left_s(step, now_s)
        if pace.elapsed_s(step, now_s) < PATIENCE_S:
            self._clear(step.child)
            return
        if step.child not in self._tasks:
            self._tasks[step.child] = self._bars.add_task("", total=None, left="")
        left = f"{_spelled(left_s)} left" if left_s is not None else ""
        task = self._tasks[step.child]
        self._bars.update(task, description=step.name, completed=step.done, total=step.total or None, left=left)

    def _clear(self, child: str) -> None:
        if child in self._tasks:
            self._bars.remove_task(self._tasks.pop(child))


@contextmanager
def face_for(stream: TextIO) -> Iterator[Face]:
    """Yield what shows progress on ``stream``: a bar where it is a terminal, plain lines elsewhere."""
    if not stream.isatty():
        yield LineFace()
        return
    from rich.console import Console  # noqa: PLC0415 - 0.1 s that a pipe does not pay
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=Console(file=stream), transient=True) as bars:
        yield TerminalFace(bars)


def _spelled(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
