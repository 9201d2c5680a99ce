"""The section that tells what was fused into one operation, and what was not and why."""

from edgeferry.converter.html.element import Child, Markup, element, joined
from edgeferry.converter.html.parts import Data, code, section, table
from edgeferry.converter.html.words import counted

__all__ = ["fusion_section"]

_SHOWN = 20


def fusion_section(report: Data) -> Markup:
    """Return the section; empty where nothing is known."""
    fusion = report.get("fusion") or {"fused": [], "unfused": []}
    if not fusion["fused"] and not fusion["unfused"]:
        return Markup("")
    return section(
        "Fusion",
        "Layers of the source that one operation of the float model does the work of. What stands alone costs a pass "
        "over its data.",
        element("p", _sentence(fusion)),
        _unfused(fusion["unfused"]),
        element("details", element("summary", "What was fused"), _fused(fusion["fused"])),
    )


def _sentence(fusion: Data) -> str:
    fused, alone = fusion["fused"], len(fusion["unfused"])
    absorbed = sum(max(0, len(one["layers"]) - 1) for one in fused)
    activations = sum(bool(one["activation"]) for one in fused)
    joins = (
        f"{counted(absorbed, 'layer')} went into {counted(len(fused), 'operation')}, {activations} with an activation"
    )
    end = f"{alone} could not be fused:" if alone else "nothing that could be fused stands alone."
    return f"{joins}; {end}"


def _unfused(unfused: list[Data]) -> Markup:
    if not unfused:
        return Markup("")
    rows: list[list[Child]] = [
        [
            joined(code(one["layer"]), element("div", one["operator"], class_="hint")),
            joined(one["reason"], element("div", one["remedy"], class_="hint") if one["remedy"] else None),
        ]
        for one in unfused[:_SHOWN]
    ]
    return joined(table(("layer", "stands alone because"), rows), _rest(len(unfused)))


def _fused(fused: list[Data]) -> Markup:
    rows: list[list[Child]] = [
        [one["operator"], code(" + ".join(one["layers"])), one["activation"]] for one in fused[:_SHOWN]
    ]
    return joined(table(("operation", "does the work of", "activation"), rows), _rest(len(fused)))


def _rest(count: int) -> Markup | None:
    more = count - _SHOWN
    return element("p", f"and {more} more, in report.json", class_="hint") if more > 0 else None
