"""What a ``.tflite`` file tells. Plain data; pure."""

from enum import StrEnum
from typing import Any

import msgspec

__all__ = [
    "FusedOperator",
    "Fusion",
    "MetadataFacts",
    "OperatorFacts",
    "OperatorKind",
    "OperatorUse",
    "Quantization",
    "SubgraphFacts",
    "TensorFacts",
    "TfliteFacts",
    "TfliteSignature",
    "UnfusedOperator",
]


class OperatorKind(StrEnum):
    """Who computes an operator: the runtime itself, the program that embeds it, or TensorFlow's own kernels."""

    BUILTIN = "builtin"
    CUSTOM = "custom"
    FLEX = "flex"


class Quantization(msgspec.Struct, frozen=True):
    """How a tensor's integers stand for real values: ``real = (integer - zero_point) * scale``.

    Attributes:
        scales: One for the whole tensor, or one per slice along ``axis``.
        zero_points: As many as scales.
        axis: Which dimension has a scale of its own for each index; only meaningful with several scales.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int = 0


class TensorFacts(msgspec.Struct, frozen=True):
    """A tensor of a subgraph.

    Attributes:
        type: As the schema names it, in lower case: ``float32``, ``int8``.
        shape: -1 where a dimension is open.
        size_bytes: Of a constant, what it takes in the file; of others, what it takes in memory with open dimensions
            as they are stored (mostly 1).
        is_constant: Whether the file holds its values.
        is_variable: Whether it keeps its values from one run to the next.
        is_sparse: Whether zeros are left out of the file.
    """

    index: int
    name: str
    type: str
    shape: tuple[int, ...]
    size_bytes: int
    quantization: Quantization | None = None
    is_constant: bool = False
    is_variable: bool = False
    is_sparse: bool = False


class OperatorFacts(msgspec.Struct, frozen=True):
    """An operator of a subgraph.

    Attributes:
        name: Of the built-in operator, or the code of a custom one.
        version: Of the operator: what the runtime has to support.
        inputs: Indices of tensors; -1 for an optional one that is left out.
        outputs: Indices of tensors.
        weight_bytes: Of its constant inputs; one that several operators share is counted at each.
        macs: Multiplications with addition, one inference, a loop's body once.
        activation: What is applied to the result in the same step: ``relu``, ``relu6``; empty for nothing.
        fused: Names of the source's operations that became this one, where the converter left them.
        options: Of the operator, as the schema names them.
        subgraphs: Indices of those that it calls.
    """

    index: int
    name: str
    kind: OperatorKind
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    weight_bytes: int = 0
    macs: int = 0
    activation: str = ""
    fused: tuple[str, ...] = ()
    options: dict[str, Any] = {}
    subgraphs: tuple[int, ...] = ()


class SubgraphFacts(msgspec.Struct, frozen=True):
    """A subgraph: the model itself, or the body of a loop or branch.

    Attributes:
        inputs: Indices of tensors.
        outputs: Indices of tensors.
        peak_activation_bytes: Greatest sum of the tensors that have to exist at once, when operators run in order and
            nothing is computed in place. What a runtime needs is at least near that.
        peak_operator: Index of the operator where that is so; -1 where there is no operator.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    tensors: tuple[TensorFacts, ...]
    operators: tuple[OperatorFacts, ...]
    peak_activation_bytes: int
    peak_operator: int


class OperatorUse(msgspec.Struct, frozen=True):
    """How often an operator is used in all subgraphs, by its version and the types of its tensors.

    Attributes:
        inputs: Types of its input tensors, constants among them; an optional one that is left out is ``""``.
        outputs: Types of its output tensors.
    """

    name: str
    kind: OperatorKind
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    count: int = 1
    weight_bytes: int = 0
    macs: int = 0


class FusedOperator(msgspec.Struct, frozen=True):
    """An operator that does the work of several.

    Attributes:
        index: Of the operator.
        layers: Of the source, in the order in which they work; as the names of tensors tell, which a converter need not
            leave.
        activation: What it applies to its result: ``relu``; empty for nothing.
    """

    index: int
    operator: str
    layers: tuple[str, ...]
    activation: str


class UnfusedOperator(msgspec.Struct, frozen=True):
    """An operator that a neighbour could do the work of.

    Attributes:
        index: Of the operator.
        layer: Of the source.
        reason: Why it stands alone.
        remedy: What would let it be fused; empty where nothing would.
    """

    index: int
    operator: str
    layer: str
    reason: str
    remedy: str


class Fusion(msgspec.Struct, frozen=True):
    """What was fused, and what was not."""

    fused: tuple[FusedOperator, ...] = ()
    unfused: tuple[UnfusedOperator, ...] = ()


class TfliteSignature(msgspec.Struct, frozen=True):
    """A named way to call the model: argument to index of a tensor."""

    key: str
    subgraph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


class MetadataFacts(msgspec.Struct, frozen=True):
    """A named piece of data beside the model.

    Attributes:
        text: What of its content is readable, where it is short.
    """

    name: str
    size_bytes: int
    text: str = ""


class TfliteFacts(msgspec.Struct, frozen=True, tag="tflite"):
    """A ``.tflite`` file.

    Attributes:
        schema_version: Of the file format; 3 in practice.
        description: What the converter wrote there.
        uses: Of operators, the most expensive first.
        custom_operators: Codes of custom operators.
        flex_operators: TensorFlow's own operations that it needs ("select TF ops").
        weight_bytes: Of all constants.
        macs: Multiplications with addition of one inference.
        peak_activation_bytes: Of the first subgraph.
        fusion: In the first subgraph.
    """

    schema_version: int
    description: str
    subgraphs: tuple[SubgraphFacts, ...]
    signatures: tuple[TfliteSignature, ...]
    metadata: tuple[MetadataFacts, ...]
    uses: tuple[OperatorUse, ...]
    custom_operators: tuple[str, ...]
    flex_operators: tuple[str, ...]
    weight_bytes: int
    macs: int
    peak_activation_bytes: int
    fusion: Fusion = Fusion()
