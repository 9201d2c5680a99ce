"""Real samples as litert-quantizer takes them, and the ranges that it learns from them.

Ranges are the least and the greatest value that any sample gave: independent of the order of the samples, and the same
as TensorFlow Lite's own converter takes. (litert-quantizer's default, a moving average, depends on the order.)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from litert_quantizer import calibrator, recipe_manager
from litert_quantizer.utils import qsv_utils
from numpy.typing import NDArray

from edgeferry.converter.samples import encode_sample
from edgeferry.wire.desired import TensorSpec

__all__ = ["SampleStream", "calibrate"]


class SampleStream:
    """Samples one by one, as often as wanted; each is cut out of its array when it is its turn."""

    def __init__(
        self,
        inputs: Mapping[str, NDArray[Any]],
        specs: Sequence[TensorSpec],
        counting: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._inputs = inputs
        self._specs = specs
        self._counting = counting

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        total = len(next(iter(self._inputs.values())))
        for index in range(total):
            self._counting(index, total)
            yield encode_sample(self._inputs, self._specs, index)


def calibrate(float_model: bytes, signature: str, samples: SampleStream, recipe: list[dict[str, Any]]) -> Any:
    """Return the ranges of all tensors, in litert-quantizer's form."""
    recipes = recipe_manager.RecipeManager()
    recipes.load_quantization_recipe(recipe)
    learner = calibrator.Calibrator(float_model, num_threads=1, qsv_update_func=qsv_utils.min_max_update)
    learner.calibrate({signature: samples}, recipes)
    return learner.get_model_qsvs()
