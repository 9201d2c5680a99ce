"""Which samples have to be prepared before they can be read: the parent's half of `preparing`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edgeferry.converter.errors import ConverterError, RequestError
from edgeferry.converter.preparing.files import PICTURES, SOUND, TABLES
from edgeferry.converter.preparing.function import is_function
from edgeferry.converter.sample_folder import holds_arrays
from edgeferry.converter.samples import is_in_place
from edgeferry.converter.stages import Stages

__all__ = ["PREPARED", "are_arrays", "prepare", "told_by_source"]

PREPARED = "samples"

_FILES = PICTURES | SOUND | TABLES


def prepare(
    stages: Stages,
    source: Path,
    *,
    folder: Path,
    say: Callable[[str], None],
    deadline_s: float,
    preprocessing: Path | None = None,
    classes: Path | None = None,
) -> Path:
    """Return where the samples of ``source`` can be read as `Samples`.

    Args:
        stages: Does the work, or has done it before.
        source: What the user gave.
        folder: For what is made of it.
        say: Called with a sentence where there is something to do.
        deadline_s: How long that may take.
        preprocessing: File that declares how what is no array becomes an input.
        classes: File with the names of classes, in the order of the model's output.

    Raises:
        ConverterError: It cannot be read, or holds no samples.
    """
    is_code = is_function(source)
    if is_code:
        job: dict[str, object] = {"function": str(source)}
    elif are_arrays(source):
        if is_in_place(source):
            return source
        job = {"source": source, "preprocessing": None, "classes": None}
    elif not source.exists():
        raise RequestError(f"{source}: No such file or folder; wanted samples")
    elif preprocessing is None:
        raise RequestError(
            f"{source}: holds no arrays; where it holds pictures, sound or tables, "
            "say with --preprocessing FILE.yaml how they become inputs"
        )
    else:
        job = {"source": source, "preprocessing": preprocessing, "classes": classes}
    say(f"preparing {source.name}")
    stages.run(
        "edgeferry.converter.preparing",
        job,
        folder=folder,
        what=f"preparing {source.name}",
        outputs=[PREPARED],
        deadline_s=deadline_s,
        is_repeatable=not is_code,
    )
    return folder / PREPARED


@contextmanager
def told_by_source(prepared: Mapping[Path, Path]) -> Iterator[None]:
    """Have errors name what the user gave instead of the folder that was made of it.

    Args:
        prepared: What `prepare` has returned, by source.
    """
    try:
        yield
    except ConverterError as err:
        sentence = str(err)
        for source, made in prepared.items():
            sentence = sentence.replace(str(made), str(source))
        err.args = (sentence,)
        raise


def are_arrays(source: Path) -> bool:
    """Return whether ``source`` is, or shall be, a file or folder of arrays.

    Raises:
        RequestError: No file can be called so.
    """
    try:
        is_folder = source.is_dir()
    except OSError as err:
        raise RequestError(f"{source}: {err.strerror}") from err
    return holds_arrays(source) if is_folder else source.suffix.lower() not in _FILES
