"""How the answers differ: confusion matrices side by side, or a histogram of errors."""

import math
from collections.abc import Sequence
from typing import Any

from edgeferry.converter.html.axes import axis_over
from edgeferry.converter.html.element import Markup, element, joined

__all__ = ["errors_plot", "matrix_plot"]

_SIDE = 430
_MARGIN = 74
_MAX_NAMED = 40
_MAX_COUNTED = 20
_WIDTH, _HEIGHT = 460, 240


def matrix_plot(matrix: Sequence[Sequence[int]], names: Sequence[str], title: str) -> Markup:
    """Return a confusion matrix: a row for each true class, a column for each told one.

    Args:
        matrix: Counts, square.
        names: Of the classes; numbers stand in where there are none.
        title: Above it.
    """
    count = len(matrix)
    cell = (_SIDE - _MARGIN) / count
    right = max((n for r, row in enumerate(matrix) for c, n in enumerate(row) if r == c), default=0)
    wrong = max((n for r, row in enumerate(matrix) for c, n in enumerate(row) if r != c), default=0)
    parts = [element("text", title, x=_MARGIN, y=16, class_="label")]
    for r, row in enumerate(matrix):
        for c, n in enumerate(row):
            most = right if r == c else wrong
            x, y = _MARGIN + c * cell, 26 + r * cell
            kind = "hit" if r == c else "miss"
            opacity = 0.12 + 0.88 * math.sqrt(n / most) if n and most else 0.04
            tip = element("title", f"{_name(names, r)} told as {_name(names, c)}: {n}")
            box = element(
                "rect", tip, x=x, y=y, width=cell - 1, height=cell - 1, rx=2, class_=kind, fill_opacity=opacity
            )
            parts.append(box)
            if n and count <= _MAX_COUNTED:
                tone = "count strong" if opacity > 0.6 else "count"
                parts.append(element("text", n, x=x + cell / 2, y=y + cell / 2 + 4, class_=f"{tone} middle"))
    if count <= _MAX_NAMED:
        for index in range(count):
            at = 26 + (index + 0.5) * cell + 4
            parts.append(element("text", _name(names, index)[:11], x=_MARGIN - 7, y=at, class_="tick end"))
    height = 26 + count * cell + 22
    told = element("text", "told", x=(_MARGIN + _SIDE) / 2, y=height - 6, class_="tick middle")
    return element("svg", *parts, told, viewBox=f"0 0 {_SIDE} {height:.0f}", class_="plot", role="img")


def errors_plot(name: str, errors: dict[str, Any]) -> Markup:
    """Return the histogram of what an output is off.

    Args:
        name: Of the output.
        errors: As `comparison` gives them: ``counts`` between ``edges``, ``rmse`` and more.
    """
    counts, edges = errors["counts"], errors["edges"]
    left, bottom, top = 14, _HEIGHT - 44, 36
    x = axis_over([edges[0], edges[-1]], left, _WIDTH - 14, ticks=5, margin=0.02)
    most = max(counts) or 1
    bars = []
    for n, begin, end in zip(counts, edges[:-1], edges[1:], strict=True):
        height = (bottom - top) * n / most
        tip = element("title", f"{n} values off by {begin:.4g} to {end:.4g}")
        width = max(1.0, x.at(end) - x.at(begin) - 1)
        bars.append(element("rect", tip, x=x.at(begin), y=bottom - height, width=width, height=height, class_="bar"))
    ticks = [
        joined(
            element("line", x1=x.at(tick), x2=x.at(tick), y1=bottom, y2=bottom + 4, class_="axis"),
            element("text", f"{tick:.3g}", x=x.at(tick), y=bottom + 18, class_="tick middle"),
        )
        for tick in x.ticks
    ]
    line = element("line", x1=left, x2=_WIDTH - 14, y1=bottom, y2=bottom, class_="axis")
    below = element("text", "quantized less float", x=_WIDTH / 2, y=_HEIGHT - 8, class_="label middle")
    figures = (
        f"RMSE {errors['rmse']:.3g}, largest {errors['largest']:.3g}, spread of the float output {errors['spread']:.3g}"
    )
    heading = element("text", name, x=left, y=14, class_="label")
    detail = element("text", figures, x=left, y=29, class_="tick")
    return element(
        "svg", heading, detail, *bars, line, *ticks, below, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", class_="plot", role="img"
    )


def _name(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else str(index)
