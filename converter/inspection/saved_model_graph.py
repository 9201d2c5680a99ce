"""A graph of TensorFlow with its functions: which operations it has, and which of them given tensors need. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Graph"]

_Counts = Counter[tuple[str, str]]  # how often a node, by name and operation, is run


class Graph:
    """A ``GraphDef``, indexed by name.

    Nodes of the graph are called by their names; inputs are ``node``, ``node:1`` or ``^node``.
    """

    def __init__(self, graph_def: Any) -> None:
        self._nodes = {node.name: node for node in graph_def.node}
        self._functions = {function.signature.name: function for function in graph_def.library.function}
        self._known: dict[str, _Counts] = {}  # counted once: functions that call each other twice are 2**depth many

    def all_operations(self) -> Counter[str]:
        """Return how often each operation stands in the graph and in all of its functions."""
        counts = Counter(node.op for node in self._nodes.values())
        for function in self._functions.values():
            counts.update(node.op for node in function.node_def)
        return Counter({operation: count for operation, count in counts.items() if not self._is_call(operation)})

    def names_of(self, operation: str) -> list[str]:
        """Return the names of all nodes with that operation, in the graph and in all of its functions."""
        functions = (node for function in self._functions.values() for node in function.node_def)
        return [node.name for node in (*self._nodes.values(), *functions) if node.op == operation]

    def operations_needed(self, tensors: Iterable[str]) -> Counter[str]:
        """Return how often each operation is needed for ``tensors``: a function's as often as it is called."""
        counts: Counter[str] = Counter()
        for (_, operation), count in self._needed(tensors).items():
            counts[operation] += count
        return counts

    def names_needed(self, tensors: Iterable[str]) -> list[str]:
        """Return name and operation of every node that ``tensors`` need, as ``scope/name: Operation``."""
        return sorted(f"{name}: {operation}" for name, operation in self._needed(tensors))

    def _needed(self, tensors: Iterable[str]) -> _Counts:
        counts: _Counts = Counter()
        waiting, seen = [_node_name(tensor) for tensor in tensors], set[str]()
        while waiting:
            name = waiting.pop()
            node = self._nodes.get(name)
            if node is None or name in seen:
                continue
            seen.add(name)
            waiting += [_node_name(one) for one in node.input]
            counts.update(self._of_node(node))
        return counts

    def _of_node(self, node: Any) -> _Counts:
        counts: _Counts = Counter() if self._is_call(node.op) else Counter({(node.name, node.op): 1})
        for function in _called(node.attr, node.op, self._functions):
            counts.update(self._of_function(function))
        return counts

    def _of_function(self, name: str) -> _Counts:
        if name not in self._known:
            self._known[name] = Counter()  # a function that calls itself is counted once
            counts: _Counts = Counter()
            for node in self._functions[name].node_def:
                counts.update(self._of_node(node))
            self._known[name] = counts
        return self._known[name]

    def _is_call(self, operation: str) -> bool:
        return operation in _CALLS or operation in self._functions


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
