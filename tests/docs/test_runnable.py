"""Blocks that a document marks as runnable do run, one after the other in one folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.brokers import free_port
from tests.docs.documents import ROOT, Block, blocks_of, documents, name_of

RUNNABLE = {path: [block for block in blocks_of(path) if block.is_runnable] for path in documents()}
PROGRAMS = {"python": [sys.executable, "-c"], "sh": ["bash", "-euo", "pipefail", "-c"]}


def run(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "EDGEFERRY_FLEET": str(folder / "fleet"),
        "EDGEFERRY_BROKER": f"mqtt://127.0.0.1:{free_port()}",  # where nobody listens: a document starts its own
    }
    command = [*PROGRAMS[block.language], block.text]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("document", [path for path, blocks in RUNNABLE.items() if blocks], ids=name_of)
def test_the_runnable_blocks_of_a_document_run(document: Path, tmp_path: Path) -> None:
    for block in RUNNABLE[document]:
        done = run(block, tmp_path)
        assert done.returncode == 0, f"{block.place} ended with {done.returncode}:\n{done.stdout}{done.stderr}"


def test_every_runnable_block_has_a_language_that_can_be_run() -> None:
    assert [b.place for blocks in RUNNABLE.values() for b in blocks if b.language not in PROGRAMS] == []


def test_no_mark_stands_alone() -> None:
    marks = sum(path.read_text().count("\n<!-- runnable -->\n") for path in documents())

    assert marks == sum(map(len, RUNNABLE.values())) > 0


def test_a_block_that_fails_would_be_noticed(tmp_path: Path) -> None:
    assert run(Block(ROOT, 1, "sh", "false | true"), tmp_path).returncode == 1
    assert run(Block(ROOT, 1, "python", "assert 1 == 2"), tmp_path).returncode == 1
