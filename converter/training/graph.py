"""A Keras model as a flat list of steps: what is applied to what, without nested models and without shared state.

Keras keeps a graph as nodes that hang on its layers. Here each call is a `Step` of its own that names values by number,
so that a graph can be looked at, changed and built again with other layers. Nested models are put in line; a layer that
is called twice stands in two steps.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from edgeferry.converter.errors import Code, SourceError

__all__ = ["Graph", "Step", "Value", "flatten"]


@dataclass(frozen=True, slots=True)
class Value:
    """What a step gives or takes, by its number."""

    number: int


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One call of an operation.

    Attributes:
        operation: A Keras layer, or a bare operation such as an addition of two tensors.
        args: As it is called, with a `Value` where a tensor comes.
        kwargs: Likewise.
        outputs: What it gives.
    """

    operation: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[Value, ...]

    @property
    def kind(self) -> str:
        """Return the name of the operation's class: ``Conv2D``."""
        return type(self.operation).__name__

    @property
    def inputs(self) -> tuple[Value, ...]:
        """Return what it takes, in order."""
        return tuple(_values_in((self.args, dict(self.kwargs))))


@dataclass(frozen=True, slots=True)
class Graph:
    """A model.

    Attributes:
        inputs: Name, shape without the batch, and dtype of each input are those of its Keras tensor.
        entries: The values of the inputs.
        steps: In an order in which they can be done.
        outputs: What the model gives.
    """

    inputs: tuple[Any, ...]
    entries: tuple[Value, ...]
    steps: tuple[Step, ...]
    outputs: tuple[Value, ...]

    def users(self) -> dict[Value, list[Step]]:
        """Return the steps that take each value; an output of the model is used once more, by nobody that is a step."""
        users: dict[Value, list[Step]] = {value: [] for value in self.entries}
        for step in self.steps:
            users.update({value: [] for value in step.outputs})
            for value in step.inputs:
                users[value].append(step)
        return users

    def only_user(self, value: Value, users: Mapping[Value, Sequence[Step]]) -> Step | None:
        """Return the step that alone takes ``value``; None where there are several, or the world outside takes it."""
        found = users[value]
        return found[0] if len(found) == 1 and value not in self.outputs else None

    def makers(self) -> dict[Value, Step]:
        """Return the step that gives each value."""
        return {value: step for step in self.steps for value in step.outputs}

    def run(self, inputs: Sequence[Any], call: Callable[..., Any]) -> dict[Value, Any]:
        """Return every value of the graph.

        Args:
            inputs: Tensors, or symbolic ones.
            call: Called with a step, its arguments and its keyword arguments; gives what the step gives.
        """
        known: dict[Value, Any] = dict(zip(self.entries, inputs, strict=True))
        for step in self.steps:
            args, kwargs = _replaced((step.args, dict(step.kwargs)), known)
            found = keras.tree.flatten(call(step, *args, **kwargs))
            known.update(zip(step.outputs, found, strict=True))
        return known

    def fresh_inputs(self) -> list[Any]:
        """Return new symbolic inputs like those of the model."""
        return [keras.Input(tensor.shape[1:], name=tensor.name, dtype=tensor.dtype) for tensor in self.inputs]


class Numbers:
    """Gives new values."""

    def __init__(self, start: int = 0) -> None:
        self._next = start

    def __call__(self) -> Value:
        """Return a value that nothing else has."""
        self._next += 1
        return Value(self._next)

    @classmethod
    def after(cls, graph: Graph) -> "Numbers":
        """Return numbers beyond those of ``graph``."""
        return cls(max(value.number for value in (*graph.entries, *(v for s in graph.steps for v in s.outputs))))


def flatten(model: Any, name: str) -> Graph:
    """Return the graph of a Keras model.

    Args:
        model: Functional, with a flat list of inputs and of outputs.
        name: Of its file, for messages.

    Raises:
        SourceError: It is a subclassed model, or has one inside: no graph of it is known.
    """
    _refuse_subclassed(model, name)
    numbers = Numbers()
    entries = tuple(numbers() for _ in model.inputs)
    steps: list[Step] = []
    outputs = _walk(model, entries, steps, numbers, name)
    return Graph(tuple(model.inputs), entries, tuple(steps), tuple(outputs))


def _refuse_subclassed(model: Any, name: str) -> None:
    if isinstance(model, keras.Sequential) or _is_functional(model):
        return
    raise SourceError(
        f"{name}: {type(model).__name__} is a subclassed model, whose layers are called by Python code that cannot be "
        "rewritten; build it as a Functional model, keras.Model(inputs, outputs), or convert it without training",
        code=Code.SUBCLASSED_MODEL,
    )


def _is_functional(operation: Any) -> bool:
    return isinstance(operation, keras.Model) and hasattr(operation, "operations") and bool(operation.inputs)


def _functional(model: Any) -> Any:
    """Return the model as Keras's own graph; a Sequential one is a list around one."""
    return keras.Model(model.inputs, model.outputs) if isinstance(model, keras.Sequential) else model


def _walk(model: Any, inputs: Sequence[Value], steps: list[Step], numbers: Numbers, name: str) -> list[Value]:
    """Append the steps of ``model`` applied to ``inputs``, and return its outputs."""
    known = {id(tensor): value for tensor, value in zip(model.inputs, inputs, strict=True)}
    for node in _nodes(model):
        arguments = node.arguments
        args, kwargs = keras.tree.map_structure(
            lambda leaf: known.get(id(leaf), leaf), (arguments.args, arguments.kwargs)
        )
        if isinstance(node.operation, keras.Model):
            _refuse_subclassed(node.operation, name)
            inner = _functional(node.operation)
            outputs = _walk(inner, list(_values_in((args, kwargs))), steps, numbers, name)
        else:
            outputs = [numbers() for _ in node.outputs]
            steps.append(Step(node.operation, tuple(args), kwargs, tuple(outputs)))
        known.update({id(tensor): value for tensor, value in zip(node.outputs, outputs, strict=True)})
    return [known[id(tensor)] for tensor in model.outputs]


def _nodes(model: Any) -> Iterable[Any]:
    by_depth = model._nodes_by_depth  # noqa: SLF001 - Keras has no public way to look at a graph's calls
    for depth in sorted(by_depth, reverse=True):
        for node in by_depth[depth]:
            if node.operation is not None and not node.is_input:
                yield node


def _values_in(structure: Any) -> Iterable[Value]:
    return (leaf for leaf in keras.tree.flatten(structure) if isinstance(leaf, Value))


def _replaced(structure: Any, known: Mapping[Value, Any]) -> Any:
    return keras.tree.map_structure(lambda leaf: known[leaf] if isinstance(leaf, Value) else leaf, structure)
