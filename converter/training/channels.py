"""Which channels of a graph belong together, and what is left of it when some of them are removed.

What a layer gives and what the next ones take are the same channels: they can only go together. An addition ties the
channels of all that it adds; a depthwise layer has those that it takes. Channels of inputs and outputs, and those that
a step mixes in ways that are not known here, stay.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.errors import RequestError
from edgeferry.converter.training.activations import activation_of
from edgeferry.converter.training.graph import Graph, Step, Value
from edgeferry.converter.training.kinds import DEPTHWISE, TRANSPOSED, WEIGHTED, Role, keeps_channels, role_of
from edgeferry.converter.training.plain import built, fresh, shape_into

__all__ = ["Channels", "find_channels", "kept_for_saving", "kept_for_share", "multiply_accumulates", "narrowed"]

Kept = Mapping[int, NDArray[np.int64]]  # by group: which channels stay, ascending
_MIXING_ACTIVATIONS = frozenset({"softmax"})
_FEWEST = 1  # channels of a group


@dataclass(frozen=True, slots=True)
class Place:
    """The channels of a value.

    Attributes:
        group: That they belong to; the same number means the same channels.
        repeats: How often they stand there one after the other, where a picture has been made flat.
    """

    group: int
    repeats: int = 1


@dataclass(slots=True)
class Channels:
    """The channels of a graph.

    Attributes:
        places: Of each value.
        shapes: Of each value, the batch first.
        sizes: How many channels each group has.
        bound: Groups that have to stay as they are.
    """

    places: dict[Value, Place] = field(default_factory=dict)
    shapes: dict[Value, tuple[int | None, ...]] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    bound: set[int] = field(default_factory=set)
    _parents: dict[int, int] = field(default_factory=dict)

    def group_of(self, value: Value) -> int:
        """Return the group of a value's channels."""
        return self.root(self.places[value].group)

    def root(self, group: int) -> int:
        """Return the one group that stands for all that are tied to ``group``."""
        while group in self._parents:
            group = self._parents[group]
        return group

    def free(self) -> list[int]:
        """Return the groups whose channels may be removed."""
        bound = {self.root(group) for group in self.bound}
        return sorted({self.root(group) for group in self.sizes} - bound)

    def new(self, value: Value) -> None:
        """Let ``value`` have channels of its own."""
        group = len(self.sizes)
        self.sizes[group] = int(self.shapes[value][-1] or 0)
        self.places[value] = Place(group)

    def tie(self, one: int, other: int) -> None:
        """Let the channels of two groups be the same."""
        one, other = self.root(one), self.root(other)
        if one != other:
            self._parents[max(one, other)] = min(one, other)


def find_channels(graph: Graph) -> Channels:
    """Return which channels of ``graph``, in its plain form, belong together."""
    channels = Channels()
    inputs = graph.fresh_inputs()
    tensors = graph.run(inputs, lambda step, *args, **kwargs: step.operation(*args, **kwargs))
    channels.shapes = {value: tuple(tensor.shape) for value, tensor in tensors.items()}
    for value in graph.entries:
        channels.new(value)
        channels.bound.add(channels.places[value].group)
    first_calls: dict[int, Step] = {}
    for step in graph.steps:
        _follow(channels, step)
        first = first_calls.setdefault(id(step.operation), step)
        if first is not step and step.kind in WEIGHTED:  # a shared layer has one kernel
            channels.tie(channels.group_of(first.inputs[0]), channels.group_of(step.inputs[0]))
            channels.tie(channels.group_of(first.outputs[0]), channels.group_of(step.outputs[0]))
    channels.bound.update(channels.group_of(value) for value in graph.outputs)
    return channels


def _follow(channels: Channels, step: Step) -> None:
    """Find out what channels ``step`` gives."""
    takes, gives = step.inputs, step.outputs
    role = role_of(step.kind)
    if step.kind in DEPTHWISE and step.operation.depth_multiplier == 1 and channels.places[takes[0]].repeats == 1:
        channels.places[gives[0]] = channels.places[takes[0]]
    elif role is Role.WEIGHTED:
        channels.new(gives[0])
        if step.kind in DEPTHWISE:
            channels.bound.update((channels.group_of(takes[0]), channels.group_of(gives[0])))
    elif step.kind == "Flatten":
        place, size = channels.places[takes[0]], channels.shapes[takes[0]][-1] or 1
        channels.places[gives[0]] = Place(place.group, place.repeats * (channels.shapes[gives[0]][-1] or 1) // size)
    elif keeps_channels(step.kind) and activation_of(step) not in _MIXING_ACTIVATIONS and _are_alike(channels, step):
        channels.places[gives[0]] = channels.places[takes[0]]
        for value in takes[1:]:
            channels.tie(channels.group_of(takes[0]), channels.group_of(value))
    else:
        for value in gives:
            channels.new(value)
        channels.bound.update(channels.group_of(value) for value in (*takes, *gives))


def _are_alike(channels: Channels, step: Step) -> bool:
    """Return whether all that ``step`` takes and gives has its channels in the same places."""
    values = (*step.inputs, *step.outputs)
    counts = {channels.shapes[value][-1] for value in values}
    return (
        bool(step.inputs) and len(counts) == 1 and len({channels.places[value].repeats for value in step.inputs}) == 1
    )


def importance(graph: Graph, channels: Channels) -> dict[int, NDArray[np.float64]]:
    """Return how much each channel of the free groups matters: what makes it, times what uses it.

    Norms of weights are multiplied, so that scales that move from one layer into the next change nothing.
    """
    makes = {group: np.zeros(channels.sizes[group]) for group in channels.free()}
    uses = {group: np.zeros(channels.sizes[group]) for group in makes}
    for step in _weighted(graph.steps):
        squares = np.asarray(step.operation.get_weights()[0], np.float64) ** 2
        gives, takes = channels.group_of(step.outputs[0]), channels.group_of(step.inputs[0])
        if step.kind in DEPTHWISE:
            continue
        outgoing, incoming = _axes(step.kind, squares.ndim)
        if gives in makes:
            makes[gives] += _summed(squares, outgoing)
        if takes in uses:
            uses[takes] += _summed(squares, incoming).reshape(-1, channels.sizes[takes]).sum(axis=0)
    return {group: makes[group] * np.maximum(uses[group], np.finfo(np.float64).tiny) for group in makes}


def kept_for_share(graph: Graph, channels: Channels, share: float) -> Kept:
    """Return the most important channels of each free group, ``share`` of them."""
    matter = importance(graph, channels)
    return {
        group: np.sort(np.argsort(-matters, kind="stable")[: max(_FEWEST, round(len(matters) * share))])
        for group, matters in matter.items()
    }


def kept_for_saving(graph: Graph, channels: Channels, saving: float) -> Kept:
    """Return the most important channels, so that ``saving`` of the multiply-accumulates are saved, or a little more.

    Every group gives the same share of its channels.

    Raises:
        RequestError: So much cannot be saved.
    """
    wanted = _work(graph, channels, {}) * (1 - saving)
    low, high = 0.0, 1.0
    for _ in range(20):  # halvings: far finer than a channel
        middle = (low + high) / 2
        is_enough = _work(graph, channels, kept_for_share(graph, channels, middle)) <= wanted
        low, high = (middle, high) if is_enough else (low, middle)
    kept = kept_for_share(graph, channels, low)
    if (left := _work(graph, channels, kept)) > wanted:
        most = 1 - left / _work(graph, channels, {})
        raise RequestError(
            f"sparsity {saving:g}: removing channels saves {most:.2f} of the multiply-accumulates at most, because the "
            "others belong to inputs, outputs or layers that tie them; ask for less"
        )
    return kept


def multiply_accumulates(graph: Graph) -> int:
    """Return how many multiply-accumulates the layers with weights need for one inference."""
    return _work(graph, find_channels(graph), {})


def _work(graph: Graph, channels: Channels, kept: Kept) -> int:
    """Return how many of them are left with the channels of ``kept`` alone."""
    total = 0
    for step in _weighted(graph.steps):
        kernel = step.operation.get_weights()[0]
        place = step.inputs[0] if step.kind in TRANSPOSED else step.outputs[0]
        positions = int(np.prod([size or 1 for size in channels.shapes[place][1:-1]]))
        weights = kernel.size
        for value in {step.outputs[0]} if step.kind in DEPTHWISE else {step.inputs[0], step.outputs[0]}:
            group = channels.group_of(value)
            if group in kept:
                weights = weights * len(kept[group]) // channels.sizes[group]
        total += positions * weights
    return total


def narrowed(graph: Graph, channels: Channels, kept: Kept) -> Graph:
    """Return ``graph`` with the channels of ``kept`` alone; its layers are new, with what is left of their weights."""
    layers: dict[int, Any] = {}
    for step in graph.steps:
        if id(step.operation) not in layers:
            is_weighted = step.kind in WEIGHTED
            layers[id(step.operation)] = _cut(step, channels, kept) if is_weighted else fresh(step.operation)
    steps = tuple(replace(step, operation=layers[id(step.operation)]) for step in graph.steps)
    return replace(graph, steps=steps)


def _cut(step: Step, channels: Channels, kept: Kept) -> Any:
    layer = step.operation
    kernel, bias = layer.get_weights()
    comes, goes = (_indices(channels, value, kept) for value in (step.inputs[0], step.outputs[0]))
    changes: dict[str, Any] = {}
    outgoing, incoming = _axes(step.kind, kernel.ndim)
    kernel = kernel.take(comes, axis=incoming)
    if step.kind not in DEPTHWISE:
        kernel = kernel.take(goes, axis=outgoing)
        changes = {"units" if step.kind == "Dense" else "filters": len(goes)}
    shape = (*shape_into(layer)[:-1], len(comes))
    return built(type(layer).from_config({**layer.get_config(), **changes}), shape, [kernel, bias[goes]])


def _indices(channels: Channels, value: Value, kept: Kept) -> NDArray[np.int64]:
    """Return where along its last axis the channels of a value are that stay."""
    place, group = channels.places[value], channels.group_of(value)
    size = channels.sizes[group]
    stays = kept.get(group, np.arange(size))
    if group in channels.sizes and place.repeats == 1 and group not in kept:
        return np.arange(channels.shapes[value][-1] or 0)
    return (np.arange(place.repeats)[:, np.newaxis] * size + stays).ravel()


def _axes(kind: str, rank: int) -> tuple[int, int]:
    """Return the axes of a kernel that count the channels going out and coming in."""
    return (rank - 2, rank - 1) if kind in TRANSPOSED else (rank - 1, rank - 2)


def _summed(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return np.asarray(values.sum(axis=tuple(at for at in range(values.ndim) if at != axis)))


def _weighted(steps: Sequence[Step]) -> Iterable[Step]:
    """Return the steps with weights, each layer once."""
    seen: set[int] = set()
    for step in steps:
        if step.kind in WEIGHTED and id(step.operation) not in seen:
            seen.add(id(step.operation))
            yield step
