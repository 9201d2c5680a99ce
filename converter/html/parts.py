"""What several sections of the page are built from: a section, a table, a key of colours."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgeferry.converter.html.element import Child, Markup, element

__all__ = ["Data", "code", "key", "section", "table"]

Data = Mapping[str, Any]

_SHORT = 24  # a cell that is not broken into lines


def section(title: str, lead: str, *parts: Child, is_long: bool = False) -> Markup:
    """Return a section with a sentence below its title."""
    first = element("p", lead, class_="hint") if lead else None
    return element("section", element("h2", title), first, *parts, class_="long" if is_long else None)


def table(heads: Sequence[str], rows: Sequence[Sequence[Child]], kinds: Sequence[str] = ()) -> Markup:
    """Return a table; ``kinds`` are the classes of its rows."""
    head = element("tr", *(element("th", name) for name in heads))
    body = [
        element("tr", *(_cell(cell) for cell in row), class_=kinds[index] if index < len(kinds) else None)
        for index, row in enumerate(rows)
    ]
    return element("div", element("table", element("thead", head), element("tbody", *body)), class_="scroll")


def _cell(cell: Child) -> Markup:
    is_short = isinstance(cell, str) and not isinstance(cell, Markup) and len(cell) <= _SHORT
    return element("td", cell, class_="tight" if is_short else None)


def key(*entries: tuple[str, str]) -> Markup:
    """Return what colours mean: class and words."""
    colours = {
        "chosen": "background:var(--chosen)",
        "good": "background:var(--good)",
        "rejected": "background:var(--rejected)",
    }
    items = [
        element("span", element("i", class_=kind.replace(" ", "-"), style=colours.get(kind)), text)
        for kind, text in entries
    ]
    return element("div", *items, class_="key")


def code(text: str) -> Markup:
    """Return text in a fixed width."""
    return element("code", text)
