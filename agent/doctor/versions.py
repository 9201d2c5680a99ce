"""Whether a version lies within a range such as ``>=2.3,<2.4``, as profiles spell it. Pure."""

import operator
import re
from collections.abc import Callable
from itertools import zip_longest

__all__ = ["is_within"]

_CLAUSE = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*([0-9]+(?:\.[0-9]+)*)\s*")
_COMPARES: dict[str, Callable[[int, int], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def is_within(version: str, wanted: str) -> bool | None:
    """Tell whether ``version`` is one of ``wanted``; None when one of both is spelt in a way that is not known here.

    Args:
        version: Numbers with dots; what follows them (``rc1``, ``.post2``) is left out.
        wanted: Clauses with commas between them (a part of PEP 440).
    """
    found = re.match(r"[0-9]+(\.[0-9]+)*", version)
    clauses = [_CLAUSE.fullmatch(clause) for clause in wanted.split(",")]
    if found is None:
        return None
    verdicts = [_COMPARES[clause[1]](_order(found[0], clause[2]), 0) for clause in clauses if clause]
    return all(verdicts) if len(verdicts) == len(clauses) else None


def _order(one: str, other: str) -> int:
    """Return below 0, 0 or above 0 when ``one`` comes before, with or after ``other``; missing numbers are 0."""
    pairs = zip_longest(map(int, one.split(".")), map(int, other.split(".")), fillvalue=0)
    return next(((a > b) - (a < b) for a, b in pairs if a != b), 0)
