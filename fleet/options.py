"""Numbers on the command line that are numbers: in their range, and not NaN, which compares as inside of any."""

import math
from typing import Any

import click

__all__ = ["FiniteRange", "Percent"]


class FiniteRange(click.FloatRange):
    """A real number from ``min`` to ``max``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number that ``value`` spells; anything else is an error of usage."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Percent(click.IntRange):
    """A whole number of percent, 0 to 100, with or without the sign."""

    def __init__(self) -> None:
        super().__init__(0, 100)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number that ``value`` spells."""
        spelled: Any = str(value).removesuffix("%")
        return int(super().convert(spelled, param, ctx))
