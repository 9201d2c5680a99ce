"""The child process that makes a folder of arrays of one source of samples.

Job: ``source``, and the files ``preprocessing`` and ``classes``, or null; or ``function``, the name of one. It leaves
the folder ``samples``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeferry.converter.child import child_main
from edgeferry.converter.labels import read_labels
from edgeferry.converter.preparing.function import write_yielded
from edgeferry.converter.preparing.gathering import gather
from edgeferry.converter.preparing.packed import unpack
from edgeferry.converter.preparing.source import PREPARED, are_arrays
from edgeferry.converter.preprocessing_file import read_preprocessing


def main() -> None:
    """Do the job in the folder named on the command line."""
    child_main(_prepare)


def _prepare(job: dict[str, Any], folder: Path) -> Mapping[str, object]:
    made = folder / PREPARED
    made.mkdir()
    if "function" in job:
        write_yielded(job["function"], made, folder)
        return {}
    source = Path(job["source"])
    if are_arrays(source):
        unpack(source, made, folder)
    else:
        declared = read_preprocessing(Path(job["preprocessing"]))
        classes = read_labels(Path(job["classes"])) if job["classes"] else ()
        gather(source, declared, classes, made, folder)
    return {}


if __name__ == "__main__":
    main()
