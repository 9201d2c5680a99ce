"""Candidates as points: score over a cost, with the front of those that nobody beats in both."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeferry.converter.html.axes import Frame, axis_over
from edgeferry.converter.html.element import Markup, element, joined
from edgeferry.converter.html.words import unit_of

__all__ = ["Point", "front", "pareto_plot"]

_WIDTH, _HEIGHT = 460, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 18, 34, 44
_LETTER = 6.6  # width of one at the size of labels


@dataclass(frozen=True, slots=True)
class Point:
    """A candidate.

    Attributes:
        name: Written beside it.
        cost: Less is better.
        score: More is better.
        state: ``chosen``, ``good`` or ``rejected``.
        low: Lower end of the score's interval; None where it is not known.
        high: Upper end.
    """

    name: str
    cost: float
    score: float
    state: str
    low: float | None = None
    high: float | None = None


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other one beats in cost and score, the cheapest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.score)):
        if not best or point.score > best[-1].score:
            best.append(point)
    return best


def pareto_plot(
    points: Sequence[Point],
    *,
    x_label: str,
    y_label: str,
    units: Sequence[tuple[str, float]],
    wanted: float | None = None,
) -> Markup:
    """Return the plot; empty without points.

    Args:
        points: The candidates.
        x_label: What a cost is.
        y_label: What a score is.
        units: In which a cost can be spelled, the largest first.
        wanted: The least score that the budget allows; drawn as a line.
    """
    if not points:
        return Markup("")
    heights = [value for point in points for value in (point.score, point.low, point.high) if value is not None]
    heights += [] if wanted is None else [wanted]
    unit, size = unit_of(max(point.cost for point in points), units)
    points = [replace(point, cost=point.cost / size) for point in points]
    x = axis_over([0.0, *(point.cost for point in points)], _LEFT, _WIDTH - _RIGHT, ticks=4, floor=0.0)
    y = axis_over(heights, _HEIGHT - _BOTTOM, _TOP, ticks=5, margin=0.15)
    frame = Frame(x, y, f"{x_label}, {unit}", y_label, "{:g}".format, "{:.4g}".format)
    parts = [frame.draw()]
    if wanted is not None:
        at = y.at(wanted)
        parts.append(element("line", x1=x.begin, x2=x.end, y1=at, y2=at, class_="budget"))
        parts.append(element("text", "budget", x=x.end, y=at + 13, class_="tick end budget-text"))
    steps = " ".join(f"{x.at(point.cost):.1f},{y.at(point.score):.1f}" for point in front(points))
    parts.append(element("polyline", points=steps, class_="front"))
    taken: list[tuple[float, float]] = []
    parts += [_drawn(point, x.at(point.cost), frame, taken) for point in points]
    title = element("title", f"{y_label} over {x_label}: " + ", ".join(point.name for point in points))
    return element("svg", title, *parts, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", class_="plot", role="img")


def _drawn(point: Point, at_x: float, frame: Frame, taken: list[tuple[float, float]]) -> Markup:
    at_y = frame.y.at(point.score)
    parts = []
    if point.low is not None and point.high is not None:
        low, high = frame.y.at(point.low), frame.y.at(point.high)
        parts.append(element("line", x1=at_x, x2=at_x, y1=low, y2=high, class_=f"whisker {point.state}"))
    if point.state == "rejected":
        size = 5
        cross = f"M{at_x - size:.1f} {at_y - size:.1f}l10 10m0 -10l-10 10"
        parts.append(element("path", d=cross, class_="cross"))
    else:
        parts.append(element("circle", cx=at_x, cy=at_y, r=7 if point.state == "chosen" else 5, class_=point.state))
    text_y = _free(at_x, at_y - 10, taken)
    is_right = at_x + len(point.name) * _LETTER > frame.x.end
    place = "end" if is_right else "start"
    x = at_x - 9 if is_right else at_x + 9
    parts.append(element("text", point.name, x=x, y=text_y, class_=f"name {place} {point.state}"))
    return joined(*parts)


def _free(x: float, y: float, taken: list[tuple[float, float]]) -> float:
    """Return a height near ``y`` at which no other name is written."""
    while any(abs(x - other_x) < 95 and abs(y - other_y) < 13 for other_x, other_y in taken):
        y += 13
    taken.append((x, y))
    return y
