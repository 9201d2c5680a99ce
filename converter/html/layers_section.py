"""The section that tells how much each layer errs, and why those that stand out do."""

from collections.abc import Sequence

from edgeferry.converter.html.element import Child, Markup, element, joined
from edgeferry.converter.html.layers import CAUSES, layers_plot
from edgeferry.converter.html.parts import Data, code, key, section, table
from edgeferry.converter.html.words import percent

__all__ = ["layers_section"]

_SHOWN_LAYERS = 12
_NAME_CHARACTERS = 60


def layers_section(report: Data) -> Markup:
    """Return the section; empty where no layers were compared."""
    parts: list[Child] = []
    causes: set[str] = set()
    for scheme, look in report["looks"].items():
        layers = look.get("layers", [])
        if layers:
            parts += [element("h3", scheme), layers_plot(layers), _outliers(layers)]
            causes |= {layer["cause"] for layer in layers if layer["cause"]}
    if not parts:
        return Markup("")
    colours = key(
        ("", "as it should be"), *((cause, f"{cause}: {CAUSES[cause]}") for cause in CAUSES if cause in causes)
    )
    return section(
        "Layers",
        "Signal-to-noise ratio of each layer's output, quantized against float: 40 dB is an error of 1 %, 20 dB one of "
        "10 %, and at 0 dB nothing is left of the signal. A line across a column is the median channel of a feature "
        "map: far below the top, large channels take the precision of small ones.",
        *parts,
        colours,
        is_long=True,
    )


def _outliers(layers: Sequence[Data]) -> Markup:
    found = (layer for layer in layers if layer["cause"])
    worst = sorted(found, key=lambda layer: (layer["cause"] == "inherited", _lowest_db(layer)))
    if not worst:
        return element("p", "No layer stands out.", class_="hint")
    rows: list[list[Child]] = [
        [
            joined(code(_layer_name(layer["name"])), element("div", layer["operation"], class_="hint")),
            f"{layer['signal_db']:.1f} dB",
            "" if layer["channel_db"] is None else f"{layer['channel_db']:.1f} dB",
            joined(layer["cause"], element("div", _detail(layer), class_="hint")),
            f"{layer['low']:.4g} to {layer['high']:.4g}",
        ]
        for layer in worst[:_SHOWN_LAYERS]
    ]
    heads = ("layer", "ratio", "median channel", "cause", "float values")
    more = len(worst) - _SHOWN_LAYERS
    rest = element("p", f"and {more} more, in report.json", class_="hint") if more > 0 else None
    return joined(table(heads, rows), rest)


def _lowest_db(layer: Data) -> float:
    return float(min(ratio for ratio in (layer["signal_db"], layer["channel_db"]) if ratio is not None))


def _detail(layer: Data) -> str:
    """Return the figures by which a cause was told."""
    match layer["cause"]:
        case "saturation":
            return f"{percent(layer['clipped_share'])} of the values are clipped"
        case "dead channels":
            return f"{layer['dead_channels']} of {layer['channels']}"
        case "range outlier":
            return f"99.8 % of the values use {percent(layer['used_range'])} of the range"
        case _:
            return ""


def _layer_name(name: str) -> str:
    """Return the first of the names that fusing has joined, without what its graph was called."""
    first = name.split(";", maxsplit=1)[0]
    return first if len(first) <= _NAME_CHARACTERS else f"...{first[-_NAME_CHARACTERS:]}"
