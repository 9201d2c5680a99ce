"""Has the attempts of one rung made in a child process."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgeferry.converter.repair.plan import Attempt, Cause, Rung
from edgeferry.converter.schemes import Variant, recipe
from edgeferry.converter.stages import Stages

__all__ = ["Findings", "make_attempts"]


@dataclass(frozen=True, slots=True)
class Findings:
    """What a rung has come to.

    Attributes:
        folder: Where the attempts' files are.
        attempts: Those that could be made.
        causes: Why the plain model may lose.
        refusals: Why others could not be made, in sentences.
    """

    folder: Path
    attempts: tuple[Attempt, ...]
    causes: tuple[Cause, ...]
    refusals: tuple[str, ...]


def make_attempts(
    stages: Stages, float_model: Path, variant: Variant, rung: Rung, samples: Path, *, folder: Path, deadline_s: float
) -> Findings:
    """Return the attempts of ``rung`` for ``variant``.

    Args:
        stages: Does the work, or has done it before.
        float_model: The float ``.tflite``.
        variant: With the repairs of the rungs below.
        rung: Which one.
        samples: Real ones, to learn ranges and to compare with.
        folder: For the child's files.
        deadline_s: How long it may take.

    Raises:
        ConverterError: The child failed as a whole.
    """
    job = {
        "model": float_model,
        "samples": samples,
        "recipe": recipe(variant),
        "per_channel": variant.is_per_channel,
        "rung": rung,
        "so_far": msgspec.to_builtins(variant.repair),
    }
    result = stages.run(
        "edgeferry.converter.repair",
        job,
        folder=folder,
        what=f"repairing {variant}",
        outputs=["attempt-*.tflite"],
        deadline_s=deadline_s,
    )
    return Findings(
        folder,
        msgspec.convert(result["attempts"], tuple[Attempt, ...]),
        msgspec.convert(result["causes"], tuple[Cause, ...]),
        tuple(result["refusals"]),
    )
