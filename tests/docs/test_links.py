"""Links between documents lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.docs.documents import ROOT, documents, name_of

LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")


def anchors_of(document: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", documents(), ids=name_of)
def test_every_relative_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    for link in LINK.findall(document.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{name_of(document)}: {link} leads nowhere"
        assert target.is_relative_to(ROOT), f"{name_of(document)}: {link} leads out of the project"
        assert not anchor or anchor in anchors_of(target), f"{name_of(document)}: {link} names no heading"


def test_the_index_links_to_every_document_below_docs() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link).resolve() for link in LINK.findall(index.read_text()) if "://" not in link}

    assert [
        name_of(path) for path in documents() if path.parent == ROOT / "docs" and path not in {*linked, index}
    ] == []


def test_the_index_of_decisions_links_to_every_one_of_them() -> None:
    index = ROOT / "docs" / "adr" / "README.md"
    linked = {(index.parent / link).resolve() for link in LINK.findall(index.read_text())}

    assert [path.name for path in index.parent.glob("[0-9]*.md") if path not in linked] == []
