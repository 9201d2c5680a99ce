"""What a SavedModel tells. Plain data; pure."""

import msgspec

from edgeferry.converter.inspection.keras_facts import KerasFacts

__all__ = ["AssetFacts", "FunctionFacts", "MetaGraphFacts", "PortFacts", "SavedModelFacts", "Signature", "Variable"]


class PortFacts(msgspec.Struct, frozen=True):
    """An input or output of a signature.

    Attributes:
        name: The argument.
        tensor: In the graph: ``serving_default_x:0``.
        type: As TensorFlow names it: ``float32``, ``string``.
        shape: -1 where a dimension is open; None where not even their number is known.
    """

    name: str
    tensor: str
    type: str
    shape: tuple[int, ...] | None


class Signature(msgspec.Struct, frozen=True):
    """A named way to call the model.

    Attributes:
        method: ``tensorflow/serving/predict`` or one of its older kin.
        operations: How often each of TensorFlow's operations is needed to compute the outputs.
    """

    key: str
    method: str
    inputs: tuple[PortFacts, ...]
    outputs: tuple[PortFacts, ...]
    operations: dict[str, int]


class FunctionFacts(msgspec.Struct, frozen=True):
    """A function that Python code may call on the loaded object.

    Attributes:
        name: Of the attribute: ``__call__``, ``train_step``.
        calls: One text per traced signature, with types, shapes and Python values.
    """

    name: str
    calls: tuple[str, ...]


class Variable(msgspec.Struct, frozen=True):
    """A variable.

    Attributes:
        shape: None where it is not known.
        size_bytes: None where the shape has open dimensions, or elements have no fixed size.
        is_trainable: Whether training was to change it; as TensorFlow 1 does not say it, True there.
    """

    name: str
    type: str
    shape: tuple[int, ...] | None
    size_bytes: int | None
    is_trainable: bool = True


class AssetFacts(msgspec.Struct, frozen=True):
    """A file that the model reads.

    Attributes:
        size_bytes: None where the file is missing.
    """

    path: str
    size_bytes: int | None


class MetaGraphFacts(msgspec.Struct, frozen=True):
    """One of the graphs that a SavedModel may hold, told apart by tags.

    Attributes:
        tensorflow_version: That wrote it.
        git_version: The same, more precisely.
        operations: How often each of TensorFlow's operations stands in it, saving and restoring included.
        functions: That the loaded object has.
        variables: All of them.
        assets: All of them.
        initializer: The operation that prepares the model when it is loaded; empty where there is none.
        scopes: For each signature, name and kind of every operation that it needs: ``net/dense/MatMul: MatMul``.
        keras: Architecture and training configuration, where Keras saved them.
    """

    tags: tuple[str, ...]
    tensorflow_version: str
    git_version: str
    signatures: tuple[Signature, ...]
    operations: dict[str, int]
    functions: tuple[FunctionFacts, ...]
    variables: tuple[Variable, ...]
    assets: tuple[AssetFacts, ...]
    scopes: dict[str, tuple[str, ...]]
    keras: KerasFacts | None
    initializer: str = ""


class SavedModelFacts(msgspec.Struct, frozen=True, tag="saved_model"):
    """A SavedModel.

    Attributes:
        schema_version: Of the file format.
        is_tensorflow_2: Whether it was saved as an object with functions, not as a graph alone.
        meta_graphs: Mostly one.
        variables_bytes: What the files with the variables' values take.
        problems: What is missing or cut off, in sentences.
    """

    schema_version: int
    is_tensorflow_2: bool
    meta_graphs: tuple[MetaGraphFacts, ...]
    variables_bytes: int
    problems: tuple[str, ...] = ()
