"""The ranges that litert-quantizer learns from real samples.

Ranges are the least and the greatest value that any sample gave: independent of the order of the samples, and the same
as TensorFlow Lite's own converter takes. (litert-quantizer's default, a moving average, depends on the order.)
"""

from collections.abc import Iterable, Mapping
from typing import Any

from litert_quantizer import calibrator, recipe_manager
from litert_quantizer.utils import qsv_utils
from numpy.typing import NDArray

__all__ = ["calibrate"]


def calibrate(
    float_model: bytes, signature: str, samples: Iterable[Mapping[str, NDArray[Any]]], recipe: list[dict[str, Any]]
) -> Any:
    """Return the ranges of all tensors, in litert-quantizer's form.

    Args:
        float_model: The ``.tflite``.
        signature: Its only one.
        samples: As the model takes them; gone through once, and held one at a time.
        recipe: Of litert-quantizer.
    """
    recipes = recipe_manager.RecipeManager()
    recipes.load_quantization_recipe(recipe)
    learner = calibrator.Calibrator(float_model, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    for sample in samples:  # not all at once: it makes a list of whatever it is given, to know how long that is
        learner.calibrate({signature: [sample]}, recipes)
    return learner.get_model_qsvs()
