"""What the tensors inside a float model hold when real samples go through it.

The runtime computes with its reference order of operations, without delegates, and keeps every tensor; each sample is
looked at and forgotten, so memory does not grow with their number.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from edgeferry.converter.repair.graph import FloatArray

__all__ = ["Probe", "channel_means", "channel_peaks", "watched"]

Sample = Mapping[str, NDArray[Any]]  # by the names of the signature


class Probe:
    """A model that can be asked for any of its tensors after a run.

    Args:
        content: The ``.tflite`` file.
    """

    def __init__(self, content: bytes) -> None:
        self._interpreter = Interpreter(
            model_content=content,
            num_threads=1,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self._interpreter.allocate_tensors()
        key = next(iter(self._interpreter.get_signature_list()))
        details = self._interpreter.get_signature_runner(key).get_input_details()
        self._inputs = {name: int(tensor["index"]) for name, tensor in details.items()}

    def run(self, sample: Sample) -> None:
        """Compute every tensor for ``sample``."""
        for name, values in sample.items():
            self._interpreter.set_tensor(self._inputs[name], values)
        self._interpreter.reset_all_variables()
        self._interpreter.invoke()

    def tensor(self, index: int) -> NDArray[Any]:
        """Return what the last run left in the tensor."""
        return np.asarray(self._interpreter.get_tensor(index))


def watched(content: bytes, samples: Iterable[Sample], tensors: Sequence[int]) -> Iterator[dict[int, NDArray[Any]]]:
    """Give what ``tensors`` hold for each sample in turn."""
    probe = Probe(content)
    for sample in samples:
        probe.run(sample)
        yield {index: probe.tensor(index) for index in tensors}


def channel_peaks(content: bytes, samples: Iterable[Sample], tensors: Sequence[int]) -> dict[int, FloatArray]:
    """Return the largest magnitude of each channel (the last axis) of ``tensors``, over all samples."""
    peaks: dict[int, FloatArray] = {}
    for seen in watched(content, samples, tensors):
        for index, values in seen.items():
            peak = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
            peaks[index] = np.maximum(peaks[index], peak) if index in peaks else peak
    return peaks


def channel_means(content: bytes, samples: Iterable[Sample], tensors: Sequence[int]) -> dict[int, FloatArray]:
    """Return the mean of each channel (the last axis) of ``tensors``, over all samples."""
    sums: dict[int, NDArray[np.float64]] = {}
    count = 0
    for seen in watched(content, samples, tensors):
        count += 1
        for index, values in seen.items():
            mean = values.reshape(-1, values.shape[-1]).mean(axis=0, dtype=np.float64)
            sums[index] = sums.get(index, np.zeros_like(mean)) + mean
    return {index: (total / count).astype(np.float32) for index, total in sums.items()}
