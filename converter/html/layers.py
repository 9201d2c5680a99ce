"""Every layer's signal-to-noise ratio as a column, in the order of the model; outliers are coloured by their cause.

A line across the column of a feature map is the ratio of its median channel.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from edgeferry.converter.html.axes import Axis, round_ticks
from edgeferry.converter.html.element import Markup, element

__all__ = ["CAUSES", "layers_plot"]

CAUSES: Mapping[str, str] = {
    "saturation": "values leave the range that calibration has seen: calibrate with more, or more typical samples",
    "dead channels": "some channels are smaller than the step of the others: equalize channels, or keep it in float",
    "range outlier": "few values or channels stretch the range, the others share a few steps: equalize, or clip them",
    "inherited": "the error comes from the layers before",
    "rounding": "eight bits are too few for what this layer does",
}

_WIDTH, _HEIGHT = 940, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 26, 34
_HIGHEST_DB = 80.0
_GAP = 0.22


def layers_plot(layers: Sequence[Mapping[str, Any]]) -> Markup:
    """Return the chart; empty without layers.

    Args:
        layers: As `converter.layers` gives them: ``name``, ``operation``, ``signal_db``, ``cause`` and more.
    """
    if not layers:
        return Markup("")
    ratios = [min(_HIGHEST_DB, layer["signal_db"]) for layer in layers]
    low, high = min(0.0, 10 * (min(ratios) // 10)), max(40.0, 10 * -(-max(ratios) // 10))
    y = Axis(max(low, -20.0), high, _HEIGHT - _BOTTOM, _TOP, round_ticks(max(low, -20.0), high, 4))
    parts = [element("text", "dB", x=_LEFT - 7, y=10, class_="label end")]
    for tick in y.ticks:
        at = y.at(tick)
        parts.append(element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=at, y2=at, class_="grid"))
        parts.append(element("text", f"{tick:g}", x=_LEFT - 7, y=at + 4, class_="tick end"))
    slot = (_WIDTH - _LEFT - _RIGHT) / len(layers)
    width = min(44.0, slot * (1 - _GAP))
    for index, (layer, ratio) in enumerate(zip(layers, ratios, strict=True)):
        x, top = _LEFT + slot * (index + 0.5) - width / 2, y.at(ratio)
        cause = layer["cause"]
        tip = element("title", f"{layer['name']} ({layer['operation']}): {layer['signal_db']:.1f} dB {cause}")
        kind = f"column {cause.replace(' ', '-')}" if cause else "column"
        height = max(1.5, y.begin - top)
        parts.append(element("rect", tip, x=x, y=y.begin - height, width=width, height=height, rx=1.5, class_=kind))
        if layer["channel_db"] is not None:
            at = y.at(layer["channel_db"])
            parts.append(element("line", x1=x - 2, x2=x + width + 2, y1=at, y2=at, class_="median"))
    first, last = (
        element("text", text, x=x, y=_HEIGHT - 14, class_=f"tick {place}")
        for text, x, place in (("first layer", _LEFT, "start"), ("last layer", _WIDTH - _RIGHT, "end"))
    )
    title = element("title", "signal-to-noise ratio of each layer")
    viewport = f"0 0 {_WIDTH} {_HEIGHT}"
    return element("svg", title, *parts, first, last, viewBox=viewport, class_="plot wide", role="img")
