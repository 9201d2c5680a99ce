"""Which samples have to be prepared before they can be read: the parent's half of `preparing`."""

from pathlib import Path

from edgeferry.converter.samples import is_in_place
from edgeferry.converter.stages import Stages

__all__ = ["PREPARED", "prepare"]

PREPARED = "samples"


def prepare(stages: Stages, source: Path, *, folder: Path, deadline_s: float) -> Path:
    """Return where the samples of ``source`` can be read as `Samples`.

    Args:
        stages: Does the work, or has done it before.
        source: What the user gave.
        folder: For what is made of it.
        deadline_s: How long that may take.

    Raises:
        ConverterError: It cannot be read, or holds no samples.
    """
    if is_in_place(source):
        return source
    stages.run(
        "edgeferry.converter.preparing",
        {"source": source},
        folder=folder,
        what=f"preparing {source.name}",
        outputs=[PREPARED],
        deadline_s=deadline_s,
    )
    return folder / PREPARED
