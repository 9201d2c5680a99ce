"""Which operations of a ``.tflite`` the runtime of a profile cannot run, and why. Pure.

    operations --problems(operations, profile)--> one Problem for each operation that would fail on the device

Rules, in this order; an operation has the first problem that applies:
1. TensorFlow's own operations ("flex") need a runtime that was built with them, which the profile has to allow.
2. Custom operators need a program that brings them along; a few come with every runtime, one with the Edge TPU.
3. A built-in operator has to be in the runtime (`kernel_versions`).
4. The runtime must know its version (`kernel_versions`).
5. The runtime must have a kernel for its type of data (`kernel_types`, where that was measured).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from edgeferry.converter.inspection.tflite_facts import OperatorKind, OperatorUse
from edgeferry.converter.kernel_types import MEASURED_TYPES, TYPES
from edgeferry.converter.kernel_versions import CUSTOM_OPERATORS, VERSIONS
from edgeferry.device_profiles import DeviceProfile, RuntimePackage

__all__ = ["Problem", "Rule", "data_type", "problems"]

_COLUMN = {RuntimePackage.TFLITE_RUNTIME: 0, RuntimePackage.AI_EDGE_LITERT: 1}
_RELEASES = ("tflite-runtime 2.14.0", "ai-edge-litert 2.3")
_EDGE_TPU_OPERATOR = "edgetpu-custom-op"
_EDGE_TPU_LIBRARY = "libedgetpu"
# Which input decides the kernel, where it is not the first one; None stands for the output.
_DATA_INPUT: dict[str, int | None] = {
    "EMBEDDING_LOOKUP": 1,
    "FILL": 1,
    "QUANTIZE": None,
    "SELECT_V2": 1,
    "SPLIT": 1,
    "TRANSPOSE_CONV": 2,
}


class Rule(StrEnum):
    """Which rule an operation breaks."""

    FLEX = "flex"
    CUSTOM = "custom"
    UNKNOWN_OPERATOR = "unknown_operator"
    VERSION = "version"
    TYPE = "type"


@dataclass(frozen=True, slots=True)
class Problem:
    """An operation that would fail on the device.

    Attributes:
        operation: Its name.
        version: Of the operation.
        type: Of its data; empty where it has none.
        reason: Why it cannot run, in a sentence without its end.
        remedy: What to do.
    """

    rule: Rule
    operation: str
    version: int
    type: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}"


def problems(operations: Iterable[OperatorUse], profile: DeviceProfile) -> tuple[Problem, ...]:
    """Return what of ``operations`` the runtime of ``profile`` cannot run, each problem once, in their order.

    Args:
        operations: Of a model: ``inspect_model(path).details.uses``.
        profile: Of the device.
    """
    found = (_problem(operation, profile) for operation in operations)
    return tuple(dict.fromkeys(problem for problem in found if problem is not None))


def _problem(operation: OperatorUse, profile: DeviceProfile) -> Problem | None:
    match operation.kind:
        case OperatorKind.FLEX:
            return _flex(operation, profile)
        case OperatorKind.CUSTOM:
            return _custom(operation, profile)
        case OperatorKind.BUILTIN:
            return _version(operation, profile) or _type(operation, profile)
        case _ as never:
            assert_never(never)


def _flex(operation: OperatorUse, profile: DeviceProfile) -> Problem | None:
    if profile.allow_select_tf_ops:
        return None
    own = operation.name.removeprefix("Flex")
    return Problem(
        Rule.FLEX,
        operation.name,
        operation.version,
        data_type(operation),
        f"{operation.name} is TensorFlow's own operation {own}, which {profile.name} does not allow "
        "(allow_select_tf_ops), because its runtime comes without them",
        f"replace what the model computes with {own} by operations that TensorFlow Lite has",
    )


def _custom(operation: OperatorUse, profile: DeviceProfile) -> Problem | None:
    column = _COLUMN[profile.runtime.package]
    if operation.name in CUSTOM_OPERATORS[column]:
        return None
    is_edge_tpu = operation.name == _EDGE_TPU_OPERATOR
    if is_edge_tpu and any(one.library.startswith(_EDGE_TPU_LIBRARY) for one in profile.runtime.delegates):
        return None
    return Problem(
        Rule.CUSTOM,
        operation.name,
        operation.version,
        data_type(operation),
        "it was compiled for an Edge TPU, which the profile does not have"
        if is_edge_tpu
        else f"{operation.name} is a custom operator, which {_RELEASES[column]} does not bring along",
        "take the model as it was before it was compiled" if is_edge_tpu else "convert the model without it",
    )


def _version(operation: OperatorUse, profile: DeviceProfile) -> Problem | None:
    column = _COLUMN[profile.runtime.package]
    release = _RELEASES[column]
    known = VERSIONS.get(operation.name, (0, 0))
    newest = known[column]
    if operation.version <= newest:
        return None
    if newest == 0:
        rule, reason = Rule.UNKNOWN_OPERATOR, f"{release} has no operator {operation.name}"
    else:
        rule = Rule.VERSION
        reason = f"{release} knows {operation.name} up to version {newest}, the model has version {operation.version}"
    others = [other for other, version in zip(_RELEASES, known, strict=True) if version >= operation.version]
    remedy = f"{others[0]} knows it" if others else "replace the layer that needs it"
    return Problem(rule, operation.name, operation.version, data_type(operation), reason, remedy)


def _type(operation: OperatorUse, profile: DeviceProfile) -> Problem | None:
    column = _COLUMN[profile.runtime.package]
    kind = data_type(operation)
    measured = TYPES.get(operation.name)
    if measured is None or kind not in MEASURED_TYPES.values():
        return None
    known = [MEASURED_TYPES[short] for short in measured[column].split()]
    if kind in known:
        return None
    return Problem(
        Rule.TYPE,
        operation.name,
        operation.version,
        kind,
        f"{_RELEASES[column]} computes {operation.name} on {', '.join(known)}, not on {kind}",
        "leave this operation in float32, or choose a scheme with another type",
    )


def data_type(operation: OperatorUse) -> str:
    """Return the type of the data that an operation works on, which decides its kernel; empty where it has none."""
    at = _DATA_INPUT.get(operation.name, 0)
    tensors = operation.outputs if at is None else operation.inputs
    return str(tensors[at or 0]) if len(tensors) > (at or 0) else ""
