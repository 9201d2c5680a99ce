"""Axes of a plot: from values to pixels, round numbers at the ticks, grid lines and labels."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeferry.converter.html.element import Markup, element, joined

__all__ = ["Axis", "Frame", "axis_over", "round_ticks"]


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of a plot.

    Attributes:
        low: Value at its begin.
        high: Value at its end, greater.
        begin: Pixel of ``low``.
        end: Pixel of ``high``.
        ticks: Values with a line and a label.
    """

    low: float
    high: float
    begin: float
    end: float
    ticks: tuple[float, ...]

    def at(self, value: float) -> float:
        """Return the pixel of ``value``; what lies outside comes to the edge."""
        share = (value - self.low) / (self.high - self.low)
        return self.begin + (self.end - self.begin) * min(1.0, max(0.0, share))


def axis_over(
    values: Sequence[float],
    begin: float,
    end: float,
    *,
    ticks: int = 5,
    floor: float | None = None,
    margin: float = 0.1,
) -> Axis:
    """Return an axis that holds ``values``, with room beside them.

    Args:
        values: At least one, finite.
        begin: Pixel of its low end.
        end: Pixel of its high end.
        ticks: About how many.
        floor: Where it begins; by the least value unless given.
        margin: Room at both ends, relative to the span of the values.
    """
    least, greatest = min(values), max(values)
    span = greatest - least or abs(greatest) or 1.0
    low = least - margin * span if floor is None else floor
    high = greatest + margin * span
    if high <= low:
        high = low + 1.0
    return Axis(low, high, begin, end, round_ticks(low, high, ticks))


def round_ticks(low: float, high: float, count: int) -> tuple[float, ...]:
    """Return round numbers from ``low`` to ``high``, about ``count``."""
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return tuple(round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1))


@dataclass(frozen=True, slots=True)
class Frame:
    """Two axes and what is written along them."""

    x: Axis
    y: Axis
    x_label: str
    y_label: str
    x_format: Callable[[float], str]
    y_format: Callable[[float], str]

    def draw(self) -> Markup:
        """Return grid, ticks and labels."""
        x, y = self.x, self.y
        parts = []
        for tick in x.ticks:
            at = x.at(tick)
            parts.append(element("line", x1=at, x2=at, y1=y.begin, y2=y.end, class_="grid"))
            parts.append(element("text", self.x_format(tick), x=at, y=y.begin + 16, class_="tick middle"))
        for tick in y.ticks:
            at = y.at(tick)
            parts.append(element("line", x1=x.begin, x2=x.end, y1=at, y2=at, class_="grid"))
            parts.append(element("text", self.y_format(tick), x=x.begin - 7, y=at + 4, class_="tick end"))
        middle = (x.begin + x.end) / 2
        parts.append(element("text", self.x_label, x=middle, y=y.begin + 34, class_="label middle"))
        parts.append(element("text", self.y_label, x=4, y=y.end - 18, class_="label start"))
        return joined(*parts)
