"""What the doctor finds: one sentence on what is, and one on what to do. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Verdict", "fine", "is_healthy", "problem", "warning"]


class Verdict(StrEnum):
    """How bad it is."""

    FINE = "fine"
    WARNING = "warning"  # the agent works, but not as well or as safely as it could
    PROBLEM = "problem"  # the agent cannot do its work


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What was looked at, in a word or two.
        found: What is.
        advice: What to do; empty when all is well.
    """

    subject: str
    verdict: Verdict
    found: str
    advice: str = ""


def fine(subject: str, found: str) -> Finding:
    """Return that ``subject`` is as it should be."""
    return Finding(subject, Verdict.FINE, found)


def warning(subject: str, found: str, advice: str) -> Finding:
    """Return something that should be better."""
    return Finding(subject, Verdict.WARNING, found, advice)


def problem(subject: str, found: str, advice: str) -> Finding:
    """Return something that keeps the agent from its work."""
    return Finding(subject, Verdict.PROBLEM, found, advice)


def is_healthy(findings: Iterable[Finding]) -> bool:
    """Tell whether nothing keeps the agent from its work."""
    return all(finding.verdict is not Verdict.PROBLEM for finding in findings)
