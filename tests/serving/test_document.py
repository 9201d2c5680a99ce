"""Every answer that docs/serving.md shows is the answer that is given."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.docs.documents import ROOT, blocks_of
from tests.serving.conftest import Server

DOCUMENT = ROOT / "docs" / "serving.md"
ADDRESS = "127.0.0.1:8501"


def examples() -> Iterator[tuple[str, str]]:
    """Yield every call of curl over the network, and the answer that stands below it."""
    for block in blocks_of(DOCUMENT):
        if block.text.startswith("$ curl"):
            for example in block.text.removeprefix("$ ").split("\n$ "):
                command, _, answer = example.partition("\n")
                if "--unix-socket" not in command:
                    yield command, answer.rstrip("\n")


def test_the_examples_answer_what_the_document_shows(server: Server, tmp_path: Path) -> None:
    server.load("digits", 7, features=4, classes=3)
    np.array([-102, 102, -77, -128], np.int8).tofile(tmp_path / "x.bin")
    shown = list(examples())
    address = f"{server.address[0]}:{server.address[1]}"

    found = [(command, answer_of(command.replace(ADDRESS, address), tmp_path)) for command, _ in shown]

    assert len(shown) > 10
    assert found == shown


def answer_of(command: str, folder: Path) -> str:
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode == 127:
        pytest.skip("there is no curl on this machine")
    return done.stdout.rstrip("\n")
