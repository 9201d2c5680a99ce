"""Fixtures of the training's tests: what a process with TensorFlow has seen, once for the whole run."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import coverage
import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what `facts.py` has found out, in one process for all workers."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a folder of its own below the shared one
        shared = shared.parent
    folder = shared / "training_facts"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "facts.json").exists():
            script = Path(__file__).with_name("facts.py")
            made = subprocess.run([*_python(), str(script), str(folder)], capture_output=True, text=True, check=False)
            assert made.returncode == 0, made.stderr
    return json.loads((folder / "facts.json").read_text())


def _python() -> list[str]:
    """Return what runs Python; where coverage is measured, so that it sees the process."""
    if coverage.Coverage.current() is None:
        return [sys.executable]
    return [sys.executable, "-m", "coverage", "run", "--parallel-mode", f"--data-file={ROOT / '.coverage'}"]
