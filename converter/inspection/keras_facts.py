"""What a Keras model tells: its layers, its parameters, and how it was trained. Plain data; pure."""

from typing import Any

import msgspec

__all__ = ["KerasFacts", "KerasInput", "LayerFacts", "TrainingFacts", "WeightFacts"]


class WeightFacts(msgspec.Struct, frozen=True):
    """A weight of a layer.

    Attributes:
        name: As the file names it.
        type: numpy's name of its type.
        parameters: Number of its elements.
        size_bytes: Of its values.
        is_trainable: False for statistics and states, which training does not learn.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    parameters: int
    size_bytes: int
    is_trainable: bool = True


class KerasInput(msgspec.Struct, frozen=True):
    """An input of the model.

    Attributes:
        shape: The batch on the first axis; -1 where a dimension is open.
    """

    name: str
    type: str
    shape: tuple[int, ...]


class LayerFacts(msgspec.Struct, frozen=True):
    """A layer, or a model inside of the model.

    Attributes:
        class_name: Of the layer.
        package: Where a class of the user's own is registered; empty for Keras's own ones.
        input_shape: What it was built for, where the file says so; -1 where a dimension is open.
        inbound: Names of the layers that it is fed by, where the file says so.
        is_trainable: Whether training was to change its weights.
        config: Its constructor's arguments, without those of the layers in it.
        weights: Of itself; those of the layers in it stand there.
        layers: In it.
    """

    name: str
    class_name: str
    package: str = ""
    input_shape: tuple[int, ...] = ()
    inbound: tuple[str, ...] = ()
    is_trainable: bool = True
    config: dict[str, Any] = {}
    weights: tuple[WeightFacts, ...] = ()
    layers: tuple["LayerFacts", ...] = ()

    @property
    def parameters(self) -> int:
        """Return the number of its weights' elements, those of the layers in it among them."""
        return sum(weight.parameters for weight in self.weights) + sum(layer.parameters for layer in self.layers)


class TrainingFacts(msgspec.Struct, frozen=True):
    """How the model was compiled.

    Attributes:
        optimizer: Its class, empty where none was saved.
        optimizer_config: Its constructor's arguments.
        loss: One, or one per output, as Keras spells them.
        metrics: As Keras spells them.
        other: What else the file says: loss weights, weighted metrics, jit_compile.
    """

    optimizer: str
    optimizer_config: dict[str, Any]
    loss: Any = None
    metrics: Any = None
    other: dict[str, Any] = {}


class KerasFacts(msgspec.Struct, frozen=True, tag="keras"):
    """A Keras model.

    Attributes:
        class_name: ``Sequential``, ``Functional``, or the user's own class.
        keras_version: That wrote the file; empty where it does not say.
        backend: That it was trained with.
        saved_at: As the file says it.
        inputs: Those that the architecture declares; a subclassed model declares none.
        outputs: Names of the layers that give the outputs.
        layers: Of the model.
        training: None where the model was not compiled, or saved without that.
        parameters: Of all layers.
        parameter_bytes: Of all layers.
        trainable_parameters: Without those of frozen layers, and without the statistics that layers keep.
        unplaced: Weights in the file that belong to no layer which the architecture names.
        optimizer_bytes: What the optimizer's own state takes.
        unsafe: Names of layers that carry code in the file, which loading would run.
    """

    class_name: str
    name: str
    keras_version: str
    backend: str
    saved_at: str
    inputs: tuple[KerasInput, ...]
    outputs: tuple[str, ...]
    layers: tuple[LayerFacts, ...]
    training: TrainingFacts | None
    parameters: int
    parameter_bytes: int
    trainable_parameters: int
    unplaced: tuple[WeightFacts, ...] = ()
    optimizer_bytes: int = 0
    unsafe: tuple[str, ...] = ()
