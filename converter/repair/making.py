"""Makes repaired models of one float model, and tells how far each strays from it."""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from litert_quantizer import quantizer
from numpy.typing import NDArray

from edgeferry.converter.repair.bias import correct_biases, correctable
from edgeferry.converter.repair.equalization import equalize
from edgeferry.converter.repair.graph import FloatArray, FloatGraph
from edgeferry.converter.repair.links import Link, data_input, find_links, weights_input
from edgeferry.converter.repair.observation import Sample, channel_means, channel_peaks, watched
from edgeferry.converter.repair.plan import Ranges
from edgeferry.converter.repair.ranges import Histogram, Range, histograms, least_error_range, percentile_range

__all__ = ["Base", "Outputs", "deviation", "outputs_of"]

Outputs = list[NDArray[np.float64]]  # by output, the samples on the first axis
Recipe = list[dict[str, Any]]

_MAX_GAIN = 64.0  # of one weight, from the range before a layer to that behind it; integer kernels end at 256 x 127
_SMOOTHING = 0.95  # litert_quantizer.utils.qsv_utils


class Base:
    """A float model, and what is known of it from samples; one for each way to prepare it before it is quantized.

    Args:
        content: The ``.tflite`` file.
        samples: Real ones, as the model takes them.
        recipe: Of litert-quantizer, for all operations.
        per_channel: Whether int8 weights have a scale for each output channel.
    """

    def __init__(self, content: bytes, samples: Sequence[Sample], recipe: Recipe, *, per_channel: bool) -> None:
        self.content = content
        self._samples = samples
        self._recipe = recipe
        self._per_channel = per_channel

    @cached_property
    def graph(self) -> FloatGraph:
        """Return its graph, anew for whoever changes it."""
        return FloatGraph.of(self.content)

    @cached_property
    def links(self) -> tuple[Link, ...]:
        """Return where channels can be rescaled."""
        return find_links(self.graph)

    @cached_property
    def peaks(self) -> dict[int, FloatArray]:
        """Return the largest magnitude of each channel at the links, by tensor."""
        tensors = {tensor for link in self.links for tensor in (link.tensor, data_input(link.first))}
        seen = channel_peaks(self.content, self._samples, sorted(tensors))
        return {link.tensor: np.maximum(seen[link.tensor], self._least_peak(link, seen)) for link in self.links}

    @cached_property
    def limits(self) -> dict[int, Range]:
        """Return the least and greatest value of every computed float tensor."""
        return _limits(self.content, self._samples, self._computed())

    @cached_property
    def histograms(self) -> dict[int, Histogram]:
        """Return the histogram of every computed float tensor."""
        return histograms(self.content, self._samples, self.limits)

    def equalized(self) -> "Base":
        """Return the same model with its channels rescaled between layers."""
        graph = FloatGraph.of(self.content)
        equalize(graph, self.links, self.peaks)
        return self._with(graph)

    def corrected(self) -> "Base":
        """Return the same model with its biases corrected for the rounding of weights."""
        graph = FloatGraph.of(self.content)
        inputs = sorted({data_input(operation) for operation in correctable(graph)})
        correct_biases(graph, channel_means(self.content, self._samples, inputs), per_channel=self._per_channel)
        return self._with(graph)

    def quantized(self, ranges: Ranges, float_layers: Sequence[str] = (), *, only: Sequence[str] = ()) -> bytes:
        """Return it quantized.

        Args:
            ranges: How the ranges of activations are learnt.
            float_layers: Scopes of operations that stay in float.
            only: Where given, the only scopes that are quantized.
        """
        recipe = [*self._recipe, *_excluded(float_layers)]
        if only:
            recipe = [{**entry, "regex": _any_of(only)} for entry in self._recipe if entry["operation"] == "*"]
        tool = quantizer.Quantizer(self.content, recipe)
        known = self._ranges(ranges) if tool.need_calibration else None
        return bytes(tool.quantize(known, enable_progress_report=False).quantized_model)

    def _least_peak(self, link: Link, seen: Mapping[int, FloatArray]) -> FloatArray:
        """Return what a channel's peak is taken for at least: else a bias that holds it down blows it up."""
        weights = self.graph.changeable(weights_input(link.first))
        if weights is None:
            return np.zeros(link.channels, np.float32)
        return np.asarray(link.gain(weights, seen[data_input(link.first)]) / _MAX_GAIN, np.float32)

    def _with(self, graph: FloatGraph) -> "Base":
        return Base(graph.to_bytes(), self._samples, self._recipe, per_channel=self._per_channel)

    def _ranges(self, ranges: Ranges) -> dict[str, dict[str, FloatArray]]:
        found = self._found(ranges)
        return {self.graph.name(at): _as_qsv(limits, len(self.graph.shape(at))) for at, limits in found.items()}

    def _found(self, ranges: Ranges) -> Mapping[int, Range]:
        match ranges:
            case Ranges.MIN_MAX:
                return self.limits
            case Ranges.MOVING_AVERAGE:
                return _moving_average(self.content, self._samples, self._computed())
            case Ranges.PERCENTILE:
                return {index: percentile_range(one) for index, one in self.histograms.items()}
            case Ranges.LEAST_ERROR:
                return {index: least_error_range(one) for index, one in self.histograms.items()}

    def _computed(self) -> list[int]:
        return self.graph.computed()


def outputs_of(content: bytes, samples: Sequence[Sample]) -> Outputs:
    """Return the outputs of a model for ``samples``, quantized ones as real values; inputs are quantized as needed."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    key = next(iter(interpreter.get_signature_list()))
    runner = interpreter.get_signature_runner(key)
    details = runner.get_input_details()
    found = [runner(**{name: _encoded(values, details[name]) for name, values in sample.items()}) for sample in samples]
    outputs = runner.get_output_details()
    return [np.stack([_decoded(one[name], outputs[name]) for one in found]) for name in sorted(outputs)]


def deviation(reference: Outputs, found: Outputs) -> float:
    """Return the squared distance between outputs, relative to the reference's spread; of the worst output."""
    return max(_relative(wanted, got) for wanted, got in zip(reference, found, strict=True))


def _relative(wanted: NDArray[np.float64], got: NDArray[np.float64]) -> float:
    spread = float(np.square(wanted - wanted.mean()).sum()) or 1.0
    error = float(np.square(got - wanted).sum())
    return error / spread if np.isfinite(error) else float("inf")


def _encoded(values: NDArray[Any], details: Mapping[str, Any]) -> NDArray[Any]:
    scale, zero_point = details["quantization"]
    if not scale:
        return values.astype(details["dtype"])
    limits = np.iinfo(details["dtype"])
    return np.asarray(np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max), details["dtype"])


def _decoded(values: NDArray[Any], details: Mapping[str, Any]) -> NDArray[np.float64]:
    scale, zero_point = details["quantization"]
    real = values.astype(np.float64)
    return (real - zero_point) * scale if scale else real


def _as_qsv(limits: Range, rank: int) -> dict[str, FloatArray]:
    low, high = limits  # litert-quantizer wants them in as many dimensions as the tensor has
    return {"min": np.full((1,) * rank, low, np.float32), "max": np.full((1,) * rank, high, np.float32)}


def _limits(content: bytes, samples: Sequence[Sample], tensors: Sequence[int]) -> dict[int, Range]:
    found: dict[int, Range] = {}
    for seen in watched(content, samples, tensors):
        for index, values in seen.items():
            low, high = found.get(index, (np.inf, -np.inf))
            found[index] = (min(low, float(values.min())), max(high, float(values.max())))
    return found


def _moving_average(content: bytes, samples: Sequence[Sample], tensors: Sequence[int]) -> dict[int, Range]:
    found: dict[int, Range] = {}
    for seen in watched(content, samples, tensors):
        for index, values in seen.items():
            low, high = float(values.min()), float(values.max())
            before = found.get(index, (low, high))
            found[index] = (_smoothed(before[0], low), _smoothed(before[1], high))
    return found


def _smoothed(before: float, now: float) -> float:
    return _SMOOTHING * before + (1 - _SMOOTHING) * now


def _excluded(scopes: Sequence[str]) -> Recipe:
    return [{"regex": _any_of(scopes), "operation": "*", "algorithm_key": "no_quantize"}] if scopes else []


def _any_of(scopes: Sequence[str]) -> str:
    return f"^(?:{'|'.join(re.escape(scope) for scope in scopes)})$"
