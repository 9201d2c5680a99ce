"""Names of classes: a text file with one name a line, in the order of the model's output."""

from collections.abc import Sequence
from pathlib import Path

from edgeferry.converter.errors import RequestError
from edgeferry.wire.desired import TensorSpec

__all__ = ["check_labels", "read_labels"]

_MAX_BYTES = 512 * 1024  # they travel inside of the model
_MAX_CHARACTERS = 200


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the names in the file at ``path``.

    Raises:
        RequestError: It is not a text file of names.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise RequestError(f"--labels {path}: has more than {_MAX_BYTES} bytes; wanted one name a line")
        lines = content.decode("utf-8-sig").splitlines()
    except OSError as err:
        raise RequestError(f"--labels {path}: {err.strerror}; wanted a text file with one name a line") from err
    except UnicodeDecodeError as err:
        raise RequestError(f"--labels {path}: is not UTF-8 text; wanted one name a line") from err
    names = tuple(line.strip() for line in lines)
    for number, name in enumerate(names, start=1):
        if not name or len(name) > _MAX_CHARACTERS or not name.isprintable():
            raise RequestError(f"--labels {path}, line {number}: {name[:40]!r} is no name of 1 to 200 characters")
    if not names:
        raise RequestError(f"--labels {path}: is empty; wanted one name a line")
    return names


def check_labels(whose: str, names: Sequence[str], outputs: Sequence[TensorSpec]) -> None:
    """Do nothing when the model has one output with as many scores as there are ``names``; ``whose`` tells of whom.

    Raises:
        RequestError: It has not.
    """
    sizes = [output.shape[-1] if output.shape else 1 for output in outputs]
    if len(sizes) == 1 and len(names) == max(2, sizes[0]):  # a single score tells two classes apart
        return
    found = ", ".join(f"{output.name}{list(output.shape)}" for output in outputs)
    raise RequestError(
        f"{whose}: has {len(names)} names, but the model's output is {found}; "
        "wanted a name for every class, in the order of the output, in --labels"
    )
