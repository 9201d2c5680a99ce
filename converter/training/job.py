"""What the child process that trains is given; see `__main__`."""

from pathlib import Path

import msgspec

from edgeferry.converter.training.recipe import Recipe, Technique, checked

__all__ = ["training_job"]


def training_job(
    model: Path, data: Path, evaluation: Path | None = None, recipe: Recipe | None = None, **others: object
) -> dict[str, object]:
    """Return the job for one machine that trains by ``recipe``: to be quantized, unless another is given.

    Args:
        model: The source.
        data: Samples to learn from.
        evaluation: Samples to answer at the end; those of ``data`` unless given.
        recipe: What to do.
        others: What else differs from the defaults below.
    """
    recipe = recipe or checked(Recipe(techniques=(Technique.QAT,)))
    return {
        "model": model,
        "data": data,
        "evaluation": evaluation or data,
        "recipe": msgspec.to_builtins(recipe),
        "keeps_float": False,
        "checkpoints": None,
        "key": "",
        "resumes": False,
        "board": None,
        "cluster": None,
        **others,
    }
