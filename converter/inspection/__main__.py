"""The child process that reads a model's file: foreign bytes, and libraries in C.

Job: ``path`` and ``format``. Its result is the details of an `Inspection`.
"""

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_never

import msgspec

from edgeferry.converter.child import child_main, report_step
from edgeferry.converter.errors import SourceError
from edgeferry.converter.formats.registry import FormatName

MAX_MEMORY_BYTES = 6 * 1024 * 1024 * 1024  # of address space; a SavedModel's main file may have 2 GB


def main() -> None:
    """Do the job in the folder named on the command line."""
    _limit_memory()
    child_main(read)


def read(job: dict[str, Any], folder: Path) -> Mapping[str, object]:
    """Return what the model of ``job`` tells.

    Raises:
        SourceError: It is damaged, or asks for more than reading may cost.
    """
    path = Path(job["path"])
    report_step(folder, f"reading {path.name}")
    try:
        return {"details": msgspec.to_builtins(_read(path, job["format"]))}
    except RecursionError as err:
        raise SourceError(f"{path}: is nested too deeply to be a sound model; save it anew") from err
    except MemoryError as err:
        raise SourceError(f"{path}: asks for more than {MAX_MEMORY_BYTES} bytes of memory to be read") from err
    except OSError as err:
        raise SourceError(f"{path}: cannot be read: {err.strerror or err}") from err


def _limit_memory() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = MAX_MEMORY_BYTES if most == resource.RLIM_INFINITY else min(MAX_MEMORY_BYTES, most)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, most))


def _read(path: Path, name: str) -> Any:
    match FormatName(name):
        case FormatName.TFLITE:
            from edgeferry.converter.inspection.tflite_file import read_tflite  # noqa: PLC0415 - only what is needed

            return read_tflite(path)
        case FormatName.SAVED_MODEL:
            from edgeferry.converter.inspection.saved_model_folder import read_saved_model  # noqa: PLC0415

            return read_saved_model(path)
        case FormatName.KERAS:
            from edgeferry.converter.inspection.keras_file import read_archive  # noqa: PLC0415

            return read_archive(path)
        case FormatName.HDF5:
            from edgeferry.converter.inspection.keras_file import read_hdf5  # noqa: PLC0415

            return read_hdf5(path)
        case _ as never:
            assert_never(never)


if __name__ == "__main__":
    main()
