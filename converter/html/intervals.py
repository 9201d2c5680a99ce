"""How much each candidate loses, with its interval, beside what the budget allows."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgeferry.converter.html.axes import axis_over
from edgeferry.converter.html.element import Markup, element

__all__ = ["Drop", "drops_plot"]

_WIDTH = 940
_LEFT, _RIGHT, _TOP, _ROW = 190, 110, 26, 30


@dataclass(frozen=True, slots=True)
class Drop:
    """A candidate's loss of score; ``low`` and ``high`` are the ends of its interval, None where it is not known."""

    name: str
    drop: float
    state: str
    low: float | None = None
    high: float | None = None


def drops_plot(drops: Sequence[Drop], allowed: float) -> Markup:
    """Return a row for each of ``drops``, and the line that none may cross; empty without any."""
    if not drops:
        return Markup("")
    values = [value for one in drops for value in (one.drop, one.low, one.high) if value is not None]
    bottom = _TOP + _ROW * len(drops)
    x = axis_over([0.0, allowed, *values], _LEFT, _WIDTH - _RIGHT, ticks=6)
    parts = []
    for tick in x.ticks:
        at = x.at(tick)
        parts.append(element("line", x1=at, x2=at, y1=_TOP, y2=bottom, class_="grid"))
        parts.append(element("text", f"{tick:+.4g}" if tick else "0", x=at, y=bottom + 16, class_="tick middle"))
    edge = x.at(allowed)
    parts.append(element("rect", x=edge, y=_TOP, width=max(0.0, x.end - edge), height=bottom - _TOP, class_="beyond"))
    parts.append(element("line", x1=edge, x2=edge, y1=_TOP - 4, y2=bottom, class_="budget"))
    parts.append(element("text", f"allowed {allowed:g}", x=edge, y=_TOP - 9, class_="tick middle budget-text"))
    for row, one in enumerate(drops):
        y = _TOP + _ROW * (row + 0.5)
        parts.append(element("text", one.name, x=_LEFT - 14, y=y + 4, class_=f"name end {one.state}"))
        if one.low is not None and one.high is not None:
            parts.append(
                element("line", x1=x.at(one.low), x2=x.at(one.high), y1=y, y2=y, class_=f"whisker {one.state}")
            )
        radius = 6.5 if one.state == "chosen" else 5  # it has a rim
        parts.append(element("circle", cx=x.at(one.drop), cy=y, r=radius, class_=one.state))
        parts.append(element("text", f"{one.drop:+.4f}", x=_WIDTH - _RIGHT + 14, y=y + 4, class_="tick"))
    title = element("title", "loss of score of each candidate")
    return element("svg", title, *parts, viewBox=f"0 0 {_WIDTH} {bottom + 26}", class_="plot wide", role="img")
