"""The child process that makes a folder of arrays of one source of samples.

Job: ``source``. It leaves the folder ``samples``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeferry.converter.child import child_main
from edgeferry.converter.preparing.packed import unpack
from edgeferry.converter.preparing.source import PREPARED


def main() -> None:
    """Do the job in the folder named on the command line."""
    child_main(_prepare)


def _prepare(job: dict[str, Any], folder: Path) -> Mapping[str, object]:
    made = folder / PREPARED
    made.mkdir()
    unpack(Path(job["source"]), made, folder)
    return {}


if __name__ == "__main__":
    main()
