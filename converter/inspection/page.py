"""How an inspection is laid out for people, before it is known whether they sit at a terminal. Plain data; pure."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Branch",
    "Page",
    "Section",
    "counted",
    "human_bytes",
    "human_count",
    "printable",
    "scope_tree",
    "shape_text",
]

_LONGEST_SHAPE = 8


@dataclass(frozen=True, slots=True)
class Section:
    """A table with a title.

    Attributes:
        columns: Headings; one that begins with ``>`` is set flush right, one with ``!`` is not broken over lines.
        rows: As many cells as columns.
        note: A sentence below it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that is said of a model.

    Attributes:
        title: What it is.
        facts: Label and value of what can be said in a line.
        sections: The rest; those without rows are left out when printed.
        warnings: What somebody should know who uses the model.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Branch:
    """A node of a tree.

    Attributes:
        text: What it is.
        aside: What else is said of it, less loudly.
    """

    text: str
    aside: str = ""
    children: tuple["Branch", ...] = ()


def printable(text: str) -> str:
    """Return ``text`` in one line that does nothing to a terminal: a name in a model may hold any character."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def human_bytes(size_bytes: int) -> str:
    """Return a size as a person says it, in powers of two."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def human_count(count: int) -> str:
    """Return a number with its thousands parted, from a million on in millions or billions."""
    for unit, size in (("G", 1_000_000_000), ("M", 1_000_000)):
        if count >= size:
            return f"{count / size:,.2f} {unit}"
    return f"{count:,}"


def counted(count: int, noun: str) -> str:
    """Return ``3 layers``, ``1 layer``, ``no layers``."""
    return f"{f'{count:,}' if count else 'no'} {noun}{'' if count == 1 else 's'}"


def shape_text(shape: Sequence[int] | None) -> str:
    """Return a shape as people write it, ``?`` where a dimension is open; ``?`` alone where nothing is known."""
    if shape is None:
        return "unknown rank"
    shown = ["?" if size == -1 else str(size) for size in shape[:_LONGEST_SHAPE]]
    return f"[{', '.join([*shown, *(['...'] if len(shape) > _LONGEST_SHAPE else [])])}]"


def scope_tree(names: Sequence[str]) -> tuple[Branch, ...]:
    """Return names such as ``net/dense/MatMul: MatMul`` as a tree by their scopes, with the number in each."""
    return _scopes(sorted(tuple(name.split("/")) for name in names))


def _scopes(paths: Sequence[tuple[str, ...]]) -> tuple[Branch, ...]:
    """Return a branch for each first part of ``paths``, whose last part is ``name: Operation``."""
    by_head: dict[str, list[tuple[str, ...]]] = {}
    kinds: dict[str, str] = {}
    for path in paths:
        head, _, kind = path[0].partition(": ")
        below = by_head.setdefault(head, [])
        if len(path) > 1:
            below.append(path[1:])
        else:
            kinds[head] = kind
    return tuple(_scope(head, kinds.get(head, ""), below) for head, below in by_head.items())


def _scope(head: str, kind: str, below: Sequence[tuple[str, ...]]) -> Branch:
    children = _scopes(below)
    if not kind and len(children) == 1:  # a scope of one thing says nothing that its name does not
        return Branch(f"{head}/{children[0].text}", children[0].aside, children[0].children)
    told = "" if kind == head else kind
    if not children:
        return Branch(head, told)
    inside = counted(len(below), "operation")
    return Branch(head, f"{told or kind}, with {inside}" if kind else inside, children)
