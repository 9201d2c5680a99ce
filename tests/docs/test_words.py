"""Documents are for whoever reads them later: nothing in them is of the place or the day on which they were written."""

import re
from pathlib import Path

import pytest

from tests.docs.documents import ROOT, documents, name_of, prose_of

FOREIGN = {
    "a path of the machine it was written on": r"(?<![\w.])/(?:work|root|tmp|workspace)/|/home/(?!(?:ada|you)\b)\w+",
    "an index of packages": r"--?(?:extra-)?index-url|files\.pythonhosted",
    "a number of our own tracker": r"\b[Ii]ssues? (?:no\. ?|#)?\d",
    "how it was written": r"\b(?:this|last|previous|next|first|second) (?:session|round|brief)\b|\bsub-?agents?\b",
    "something that is left to do": r"\b(?:TODO|FIXME|TBD|WIP):",
}


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_a_document_says_nothing_about_where_and_how_it_was_written(document: Path) -> None:
    text = document.read_text()

    found = {what: [match[0] for match in re.finditer(pattern, text)] for what, pattern in FOREIGN.items()}

    assert {what: words for what, words in found.items() if words} == {}
    assert str(ROOT) not in text


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_a_document_has_one_title_and_no_stray_white_space(document: Path) -> None:
    text = document.read_text()

    assert text.startswith("# ")
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert [line for line in text.splitlines() if line != line.rstrip() or "\t" in line] == []


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_code_in_prose_stands_on_one_line(document: Path) -> None:
    """Broken over two lines, it would not be found by whoever searches for it; nor by the other tests here."""
    assert [line for line in prose_of(document) if line.count("`") % 2] == []
