"""The table that ends a conversion, as plain text. Pure."""

from collections.abc import Sequence

from edgeferry.converter.selection import Choice, Verdict, in_mib

__all__ = ["headings", "rows", "text_table"]

_MARGIN = "  "


def headings(choices: Sequence[Choice]) -> tuple[str, ...]:
    """Return the names of the columns; the score's is its metric."""
    verdicts = [verdict for choice in choices for verdict in choice.verdicts]
    metrics = [verdict.candidate.evaluation.metric for verdict in verdicts if verdict.candidate]
    return ("profile", "scheme", "size", metrics[0] if metrics else "score", "drop (95 %)", "latency", "verdict")


def rows(choices: Sequence[Choice]) -> list[tuple[str, ...]]:
    """Return a row for each scheme of each profile; a profile is named in its first row only."""
    return [
        (choice.profile if index == 0 else "", *_cells(verdict))
        for choice in choices
        for index, verdict in enumerate(choice.verdicts)
    ]


def text_table(names: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a row of names and the rows of a body as lines of aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(names, *body, strict=True)]
    lines = []
    for row in (names, *body):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(_MARGIN.join(cells).rstrip())
    return "\n".join(lines)


def _cells(verdict: Verdict) -> tuple[str, ...]:
    candidate = verdict.candidate
    if candidate is None:
        return verdict.scheme, "", "", "", "", verdict.reason
    evaluation = candidate.evaluation
    return (
        verdict.scheme,
        in_mib(candidate.size_bytes),
        f"{evaluation.score:.4f}",
        f"{evaluation.drop:+.4f} ({evaluation.interval[0]:+.4f} to {evaluation.interval[1]:+.4f})",
        str(verdict.latency or ""),
        verdict.reason,
    )
