from collections.abc import Callable
from pathlib import Path

import pytest

from edgeferry.device_profiles import DeviceProfile, load_profile

WHOLE = """\
title: A board
schemes: [int8, float32]
watch_s: 30
hardware:
  arch: aarch64
  cores: 4
  memory_bytes: 1 GiB
runtime:
  package: ai-edge-litert
  version: ">=2.3,<2.4"
  python: [3.11, "3.13"]
  threads: 4
budgets:
  model_bytes: 64 MiB
  memory_bytes: 128 MiB
serving:
  threads: 3
  memory_limit_bytes: 512 MiB
  swap: both
trial:
  timeout_s: 60
  memory_limit_bytes: 256 MiB
"""

Load = Callable[..., DeviceProfile]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Return a function that writes a profile, with pieces of it replaced, and loads it."""

    def write_and_load(text: str = WHOLE, *, name: str = "board.yaml", **replaced: str) -> DeviceProfile:
        path = tmp_path / name
        for old, new in replaced.items():
            line = f"{old}: "
            assert line in text
            text = "\n".join(
                row[: row.index(line)] + new if line in row and row.strip().startswith(line) else row
                for row in text.splitlines()
            )
        path.write_text(text)
        return load_profile(str(path))

    return write_and_load
