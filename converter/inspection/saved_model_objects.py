"""What the objects of a SavedModel of TensorFlow 2 tell: its functions and its variables. In a child process."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeferry.converter.formats import protobufs
from edgeferry.converter.inspection.saved_model_facts import FunctionFacts, Variable

__all__ = ["functions_of", "type_name", "variables_of_objects"]

# Bytes of an element by TensorFlow's names; strings, resources and variants have no fixed size.
_ELEMENT_BYTES = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "qint8": 1,
    "quint8": 1,
    "float16": 2,
    "bfloat16": 2,
    "int16": 2,
    "uint16": 2,
    "float32": 4,
    "int32": 4,
    "uint32": 4,
    "qint32": 4,
    "float64": 8,
    "int64": 8,
    "uint64": 8,
    "complex64": 8,
    "complex128": 16,
}
_SHORT = {"half": "float16", "float": "float32", "double": "float64"}


def type_name(number: int) -> str:
    """Return TensorFlow's name of a type as Python spells it: ``float32``; references count as what they refer to."""
    enumeration = protobufs.types().DataType
    try:
        name = str(enumeration.Name(number % 100)).removeprefix("DT_").lower()  # DT_FLOAT_REF is DT_FLOAT + 100
    except ValueError:
        return f"type_{number}"
    return _SHORT.get(name, name)


def variables_of_objects(objects: Any) -> tuple[Variable, ...]:
    """Return every variable that the objects have, in their order; none for a SavedModel of TensorFlow 1."""
    found = (node.variable for node in objects.nodes if node.WhichOneof("kind") == "variable")
    return tuple(_variable(variable) for variable in found)


def functions_of(objects: Any) -> tuple[FunctionFacts, ...]:
    """Return the functions that hang on the root object, each with the signatures for which it was traced."""
    if not objects.nodes:
        return ()
    found = []
    for child in sorted(objects.nodes[0].children, key=lambda one: one.local_name):
        if not 0 <= child.node_id < len(objects.nodes):
            continue
        names = _concrete_functions(objects.nodes[child.node_id])
        calls = [_call(objects.concrete_functions[name]) for name in names if name in objects.concrete_functions]
        if calls:
            found.append(FunctionFacts(child.local_name, tuple(dict.fromkeys(calls))))
    return tuple(found)


def _concrete_functions(node: Any) -> list[str]:
    kind = node.WhichOneof("kind")
    if kind == "function":
        return list(node.function.concrete_functions)
    return [node.bare_concrete_function.concrete_function_name] if kind == "bare_concrete_function" else []


def _variable(variable: Any) -> Variable:
    kind = type_name(variable.dtype)
    shape = None if variable.shape.unknown_rank else tuple(int(dim.size) for dim in variable.shape.dim)
    size_bytes: int | None = _ELEMENT_BYTES.get(kind)
    for size in shape or ():
        size_bytes = None if size_bytes is None or size < 0 else size_bytes * size
    return Variable(variable.name, kind, shape, None if shape is None else size_bytes, variable.trainable)


def _call(function: Any) -> str:
    """Return how a concrete function is called, and what comes back: ``(x: float32[?, 8]) -> float32[?, 4]``."""
    arguments = _structure(function.canonicalized_input_signature)
    positional = arguments[0] if isinstance(arguments, tuple) and len(arguments) == 2 else arguments
    keywords = arguments[1] if isinstance(arguments, tuple) and len(arguments) == 2 else {}
    spelled = [*map(_spelled, positional if isinstance(positional, tuple) else [positional])]
    if isinstance(keywords, Mapping):
        spelled += [f"{name}={_unnamed(value)}" for name, value in keywords.items()]
    return f"({', '.join(spelled)}) -> {_spelled(_structure(function.output_signature))}"


@dataclass(frozen=True, slots=True)
class _Spec:
    """What stands for a tensor: its name, where it has one, and its type."""

    name: str
    type: str

    def __str__(self) -> str:
        return f"{self.name}: {self.type}" if self.name else self.type


def _structure(value: Any) -> Any:
    """Return a ``StructuredValue`` as tuples, dictionaries and plain values, tensors as `_Spec`."""
    kind = value.WhichOneof("kind") or "none_value"
    inner = getattr(value, kind)
    match kind:
        case "tuple_value" | "list_value":
            return tuple(_structure(one) for one in inner.values)
        case "dict_value":
            return {key: _structure(one) for key, one in sorted(inner.fields.items())}
        case "named_tuple_value":
            return {pair.key: _structure(pair.value) for pair in inner.values}
        case "tensor_spec_value" | "bounded_tensor_spec_value":
            return _spec(inner)
        case "float64_value" | "int64_value" | "string_value" | "bool_value":
            return inner
    return None if kind == "none_value" else _Spec("", kind.removesuffix("_value"))


def _spec(spec: Any) -> _Spec:
    sizes = "unknown rank" if spec.shape.unknown_rank else ", ".join(_size(dim.size) for dim in spec.shape.dim)
    name = "" if spec.name == "unknown" else spec.name  # as TensorFlow calls outputs without a name
    return _Spec(name, f"{type_name(spec.dtype)}[{sizes}]")


def _size(size: int) -> str:
    return "?" if size < 0 else str(size)


def _spelled(value: Any) -> str:
    if isinstance(value, _Spec):
        return str(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_spelled, value))})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_unnamed(one)}" for key, one in value.items()) + "}"
    return repr(value)


def _unnamed(value: Any) -> str:
    return value.type if isinstance(value, _Spec) else _spelled(value)
