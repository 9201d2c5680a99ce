"""A graph of TensorFlow with its functions: which operations it has, and which of them given tensors need. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["Graph"]


class Graph:
    """A ``GraphDef``, indexed by name.

    Nodes of the graph are called by their names; inputs are ``node``, ``node:1`` or ``^node``.
    """

    def __init__(self, graph_def: Any) -> None:
        self._nodes = {node.name: node for node in graph_def.node}
        self._functions = {function.signature.name: function for function in graph_def.library.function}

    def all_operations(self) -> Counter[str]:
        """Return how often each operation stands in the graph and in all of its functions."""
        counts = Counter(node.op for node in self._nodes.values())
        for function in self._functions.values():
            counts.update(node.op for node in function.node_def)
        return self._without_calls(counts)

    def operations_needed(self, tensors: Iterable[str]) -> Counter[str]:
        """Return how often each operation is needed for ``tensors``: a function's as often as it is called."""
        return self._without_calls(Counter(node.op for node in self._needed(tensors)))

    def names_needed(self, tensors: Iterable[str]) -> list[str]:
        """Return name and operation of every node that ``tensors`` need, as ``scope/name: Operation``."""
        return sorted({f"{node.name}: {node.op}" for node in self._needed(tensors) if not self._is_call(node.op)})

    def _needed(self, tensors: Iterable[str]) -> Iterator[Any]:
        waiting, seen = [_node_name(tensor) for tensor in tensors], set[str]()
        while waiting:
            name = waiting.pop()
            node = self._nodes.get(name)
            if node is None or name in seen:
                continue
            seen.add(name)
            waiting += [_node_name(one) for one in node.input]
            yield node
            yield from self._within(node, frozenset())

    def _within(self, node: Any, above: frozenset[str]) -> Iterator[Any]:
        """Yield the nodes of the functions that ``node`` calls; ``above`` are those being called, against recursion."""
        for name in _called(node.attr, node.op, self._functions):
            if name in above:
                continue
            for inner in self._functions[name].node_def:
                yield inner
                yield from self._within(inner, above | {name})

    def _is_call(self, operation: str) -> bool:
        return operation in _CALLS or operation in self._functions

    def _without_calls(self, counts: Counter[str]) -> Counter[str]:
        return Counter({operation: count for operation, count in counts.items() if not self._is_call(operation)})


_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})


def _called(attributes: Mapping[str, Any], operation: str, known: Mapping[str, Any]) -> list[str]:
    names = [operation] if operation in known else []
    for value in attributes.values():
        kind = value.WhichOneof("value")
        if kind == "func":
            names.append(value.func.name)
        elif kind == "list":
            names += [function.name for function in value.list.func]
    return [name for name in names if name in known]


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]
