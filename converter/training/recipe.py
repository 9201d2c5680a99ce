"""What a training is to do: the recipe, as a YAML file or as options of the command. Pure.

    techniques: [pruning, qat]
    epochs: 6
    optimizer: {name: adam, learning_rate: 0.001}
    pruning: {sparsity: 0.5, pattern: unstructured}

Every key has a default. Techniques are applied one after the other, in the order of `Technique`: channels and weights
are removed before the rest is clustered, and rounding comes last; what one has brought about, the next ones keep.
"""

import dataclasses
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from edgeferry.converter.errors import RequestError
from edgeferry.converter.training.strategies import Strategy
from edgeferry.device_profiles.profile import Form, Range
from edgeferry.device_profiles.reader import read
from edgeferry.device_profiles.yaml_tree import Node, ProfileError, parse_tree

__all__ = [
    "Clustering",
    "Distillation",
    "Optimizer",
    "OptimizerName",
    "Pattern",
    "Pruning",
    "Quantization",
    "Ranges",
    "Recipe",
    "Technique",
    "checked",
    "parse_recipe",
]

File = Annotated[str, Form(r"[^\0]{1,4096}", "a path")]


class Technique(StrEnum):
    """What is done to a model while it is trained, in the order in which it is done."""

    DISTILLATION = "distillation"
    PRUNING = "pruning"
    CLUSTERING = "clustering"
    QAT = "qat"


class OptimizerName(StrEnum):
    """How weights follow their gradients."""

    ADAM = "adam"
    SGD = "sgd"


class Pattern(StrEnum):
    """Which weights are pruned together."""

    UNSTRUCTURED = "unstructured"
    TWO_OF_FOUR = "2:4"
    BLOCK = "block"
    CHANNELS = "channels"


class Ranges(StrEnum):
    """How the ranges of activations follow the training."""

    LEARNED = "learned"
    MOVING_AVERAGE = "moving_average"


@dataclass(frozen=True, slots=True)
class Optimizer:
    """How weights are changed; the learning rate falls along a cosine in each technique's epochs."""

    name: OptimizerName = OptimizerName.ADAM
    learning_rate: Annotated[float, Range(0, 10)] = 0.001
    momentum: Annotated[float, Range(0, 1)] = 0.9


@dataclass(frozen=True, slots=True)
class Pruning:
    """Which weights become 0.

    Attributes:
        sparsity: Share of the weights that are 0 in the end; of ``channels``, share of the multiply-accumulates saved.
        pattern: Which of them go together.
        initial_sparsity: Where the polynomial schedule begins.
        skip: Names of layers that stay whole.
    """

    sparsity: Annotated[float, Range(0, 1)] = 0.5
    pattern: Pattern = Pattern.UNSTRUCTURED
    initial_sparsity: Annotated[float, Range(0, 1)] = 0.0
    skip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clustering:
    """How many different weights a layer has; those of a quantized one are that many of its integers."""

    clusters: Annotated[int, Range(2, 256)] = 16
    skip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a model learns to live with int8.

    Attributes:
        ranges: How activations' ranges follow.
        delay: Share of the steps in which activations are not rounded yet.
        calibration: Samples that the ranges begin with.
    """

    ranges: Ranges = Ranges.LEARNED
    delay: Annotated[float, Range(0, 1)] = 0.0
    calibration: Annotated[int, Range(1, 100_000)] = 512


@dataclass(frozen=True, slots=True)
class Distillation:
    """What a model learns from another one.

    Attributes:
        teacher: A Keras model with the same inputs and outputs; the model itself, as it was, unless given.
        temperature: By which scores are divided.
        weight: Of the teacher's answers; the rest is that of the labels.
        width: Share of the model's channels that the student keeps, the most important ones.
        features: Pairs of layers, of the student and of the teacher, that shall look at the same places.
        features_weight: Of their loss, beside that of the answers.
    """

    teacher: File | None = None
    temperature: Annotated[float, Range(1, 100)] = 4.0
    weight: Annotated[float, Range(0, 1)] = 0.5
    width: Annotated[float, Range(0, 1)] = 1.0
    features: tuple[Annotated[str, Form(r"[^=]+=[^=]+", "two layers, such as conv=block_3_conv")], ...] = ()
    features_weight: Annotated[float, Range(0, 1_000_000)] = 100.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training.

    Attributes:
        techniques: What is done; sorted, each once.
        data: Samples to learn from, a ``.npz`` file; as of `Samples`.
        evaluation: Held-out samples that judge the result.
        epochs: Of each technique.
        batch_size: Over all workers.
        seed: Of everything that is drawn.
        held_back: Share of the data by which epochs are judged.
        minutes: After that the training ends with what it has; 0 for no limit.
        strategy: On which processors and machines its steps run.
    """

    techniques: tuple[Technique, ...] = ()
    data: File | None = None
    evaluation: File | None = None
    epochs: Annotated[int, Range(0, 10_000)] = 5
    batch_size: Annotated[int, Range(1, 65_536)] = 32
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    held_back: Annotated[float, Range(0, 1)] = 0.1
    minutes: Annotated[float, Range(0, 100_000)] = 0.0
    strategy: Strategy = Strategy.AUTO
    optimizer: Optimizer = field(default_factory=Optimizer)
    pruning: Pruning = field(default_factory=Pruning)
    clustering: Clustering = field(default_factory=Clustering)
    qat: Quantization = field(default_factory=Quantization)
    distillation: Distillation = field(default_factory=Distillation)


def parse_recipe(data: bytes, file: str) -> Recipe:
    """Return the recipe that the YAML in ``data`` spells.

    Args:
        data: Content of the file.
        file: Its name, for messages.

    Raises:
        RequestError: A key or value is wrong; the message says on which line.
    """
    try:
        entries = parse_tree(data, file)
        return read(Recipe, Node(entries, file, 1))
    except ProfileError as err:
        raise RequestError(str(err)) from err


def checked(recipe: Recipe) -> Recipe:
    """Return ``recipe`` with its techniques in order, each once.

    Raises:
        RequestError: What it asks for makes no sense together.
    """
    if not recipe.techniques:
        raise RequestError(f"no technique is asked for; give --technique, one of {', '.join(Technique)}")
    if recipe.optimizer.learning_rate == 0:
        raise RequestError("learning_rate 0 changes nothing; wanted more, such as 0.001")
    if recipe.pruning.sparsity >= 1:
        raise RequestError("sparsity 1 leaves no weights; wanted less, such as 0.5")
    if not 0 < recipe.held_back < 1:
        raise RequestError(
            f"held_back {recipe.held_back:g}: wanted a share of the samples between 0 and 1, such as 0.1"
        )
    if recipe.distillation.width == 0:
        raise RequestError("width 0 leaves no channels; wanted more, such as 0.5")
    techniques = tuple(technique for technique in Technique if technique in recipe.techniques)
    return dataclasses.replace(recipe, techniques=techniques)
