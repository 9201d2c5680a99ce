"""HTML and SVG elements as text, escaped by construction: what is not `Markup` already cannot become it."""

from html import escape

__all__ = ["Child", "Markup", "element", "joined"]


class Markup(str):
    """Text that is HTML already; only `element` and `joined` make it."""

    __slots__ = ()


Child = Markup | str | int | None

_VOID = frozenset({"meta", "br", "line", "rect", "circle", "path", "polyline"})


def element(name: str, /, *children: Child, **attributes: str | float | None) -> Markup:
    """Return an element.

    Args:
        name: Of the element: ``td``.
        children: What it holds; text is escaped, None left out.
        attributes: Python spells them: ``class_``, ``stroke_width``; None leaves one out.
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_spelled(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Markup(f"<{name}{told}/>")
    return Markup(f"<{name}{told}>{joined(*children)}</{name}>")


def joined(*children: Child) -> Markup:
    """Return ``children`` one after the other."""
    return Markup("".join(_text(child) for child in children))


def _text(child: Child) -> str:
    if child is None:
        return ""
    return child if isinstance(child, Markup) else escape(str(child))


def _spelled(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
