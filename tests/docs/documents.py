"""The project's documents, and the parts of Markdown that the tests look at.

A fenced block is run by `test_runnable` when the comment ``<!-- runnable -->`` stands on the line before it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"(?P<indent> *)```(?P<language>\w*)\s*")
_RUNNABLE = "<!-- runnable -->"
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A piece of code in a document.

    Attributes:
        line: Number of its first line.
        language: What stands behind the opening fence; empty for an indented block.
    """

    document: Path
    line: int
    language: str
    text: str
    is_runnable: bool = False

    @property
    def place(self) -> str:
        return f"{name_of(self.document)}:{self.line}"


def documents() -> list[Path]:
    """Return every document: those at the top, and all below docs and examples."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def blocks_of(document: Path) -> Iterator[Block]:
    """Yield the fenced and the indented blocks of a document, in order."""
    lines = document.read_text().splitlines()
    number = 0
    while number < len(lines):
        fence = _FENCE.fullmatch(lines[number])
        if fence:
            is_runnable = number > 0 and lines[number - 1].strip() == _RUNNABLE
            end = lines.index(fence["indent"] + "```", number + 1)
            text = "\n".join(lines[number + 1 : end])
            yield Block(document, number + 2, fence["language"], text, is_runnable)
        elif lines[number].startswith("    "):
            end = next(
                (n for n in range(number, len(lines)) if lines[n] and not lines[n].startswith("    ")), len(lines)
            )
            yield Block(document, number + 1, "", "\n".join(line[4:] for line in lines[number:end]))
            end -= 1
        else:
            end = number
        number = end + 1


def prose_of(document: Path) -> Iterator[str]:
    """Yield the lines of a document that are not code."""
    in_fence = False
    for line in document.read_text().splitlines():
        if _FENCE.fullmatch(line):
            in_fence = not in_fence
        elif not in_fence and not line.startswith("    "):
            yield line


def spans_of(document: Path) -> Iterator[str]:
    """Yield the pieces of code that stand within lines of prose."""
    for line in prose_of(document):
        yield from _SPAN.findall(line)


def table_below(document: Path, heading: str) -> list[list[str]]:
    """Return the cells of the first table after ``heading``, without its own heading row."""
    text = document.read_text().partition(f"\n{heading}\n")[2]
    rows = re.search(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    assert rows, f"{name_of(document)} has no table below {heading!r}"
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[0].splitlines()[2:]]
