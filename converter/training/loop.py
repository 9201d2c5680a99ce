"""The training loop: phases of epochs, each step run by a strategy of ``tf.distribute``, the best weights kept.

The loop is our own because Keras's `fit` fails under some strategies, and because masks, centroids and ranges change
between steps. A phase is judged after each epoch by samples that were held back; its best weights are where the next
one begins. When somebody stops the training, the phases that are left are prepared but not trained, so that the result
is what was asked for, if less well trained.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgeferry.converter.errors import Code, ConverterError
from edgeferry.converter.training.batches import Batches
from edgeferry.converter.training.losses import Loss
from edgeferry.converter.training.observing import Epoch, Observer
from edgeferry.converter.training.recipe import Optimizer, OptimizerName
from edgeferry.converter.training.rewriter import CompressedModel

__all__ = ["Change", "Phase", "Trainer"]

_LAST_RATE = 0.05  # of the first learning rate


class Change(IntEnum):
    """What a phase did to a model before a step."""

    NOTHING = 0
    NUMBERS = 1  # what was judged before was another model
    GRAPH = 2  # and it computes something else than was traced


class Phase(Protocol):
    """A part of the training with one purpose.

    Attributes:
        name: In words: "pruning".
        epochs: How many it takes.
    """

    name: str
    epochs: int

    def begin(self, compressed: CompressedModel) -> None:
        """Prepare the model; the phase may end right after, when somebody stops the training."""
        ...

    def before_step(self, compressed: CompressedModel, step: int, steps: int) -> "Change":
        """Change the model where it is time to; return what was changed."""
        ...

    def finish(self, compressed: CompressedModel) -> None:
        """Bring about at once what the steps that did not come would have brought about."""
        ...


class Trainer:
    """Trains one model.

    Args:
        compressed: The model; made in the scope of ``strategy``.
        loss: Of scores and targets.
        learn: Samples to learn from.
        judge: Samples to judge epochs by.
        optimizer: Which one.
        strategy: That runs the steps.
        seed: Of the order of samples.
    """

    def __init__(
        self,
        compressed: CompressedModel,
        loss: Loss,
        learn: Batches,
        judge: Batches,
        *,
        optimizer: Optimizer,
        strategy: Any,
        seed: int,
    ) -> None:
        self._compressed = compressed
        self._loss = loss
        self._learn = learn
        self._judge = judge
        self._optimizer_wanted = optimizer
        self._strategy = strategy
        self._seed = seed
        self._epochs_done = 0

    def run(self, phases: Sequence[Phase], observer: Observer) -> bool:
        """Go through ``phases``; return whether all was done that was to do.

        Raises:
            ConverterError: The loss is no number any more.
        """
        total = sum(phase.epochs for phase in phases) * self._learn.per_epoch
        done, goes_on = 0, True
        for phase in phases:
            with self._strategy.scope():
                phase.begin(self._compressed)
            if goes_on:
                done, goes_on = self._train(phase, observer, done, total)
            if not goes_on:
                phase.finish(self._compressed)
        return goes_on

    def _train(self, phase: Phase, observer: Observer, done: int, total: int) -> tuple[int, bool]:
        steps = phase.epochs * self._learn.per_epoch
        with self._strategy.scope():
            optimizer = _built(self._optimizer_wanted, steps, self._compressed.scores.trainable_variables)
        keeper = _Best()
        step_function, judge_function = self._step_function(optimizer), self._judge_function()
        keeper.offer(self._judged(judge_function), self._compressed.scores)  # training shall not make it worse
        at = 0
        for number in range(1, phase.epochs + 1):
            losses = []
            for inputs, targets in self._learn.shuffled(self._seed, self._epochs_done):
                if not observer.step(done, total):
                    return done, self._stopped(keeper)
                change = phase.before_step(self._compressed, at, steps)
                if change is Change.GRAPH:
                    step_function, judge_function = self._step_function(optimizer), self._judge_function()
                if change is not Change.NOTHING:
                    keeper = _Best()
                losses.append(_checked(step_function(self._shared(inputs), self._shared(targets)), phase, number))
                at, done = at + 1, done + 1
            self._epochs_done += 1
            judged = self._judged(judge_function)
            is_best = keeper.offer(judged, self._compressed.scores)
            observer.epoch(Epoch(phase.name, number, phase.epochs, float(np.mean(losses)), judged, is_best))
        keeper.restore(self._compressed.scores)
        return done, True

    def _stopped(self, keeper: "_Best") -> bool:
        keeper.restore(self._compressed.scores)
        return False

    def _shared(self, arrays: Sequence[NDArray[Any]]) -> Sequence[Any]:
        """Return this batch as the replicas of this process take it."""
        replicas = self._strategy.num_replicas_in_sync
        if replicas == 1:
            return [tf.convert_to_tensor(array) for array in arrays]

        def own(context: Any, array: NDArray[Any]) -> Any:
            return tf.convert_to_tensor(array[context.replica_id_in_sync_group :: replicas])

        return [
            self._strategy.experimental_distribute_values_from_function(lambda c, a=array: own(c, a))
            for array in arrays
        ]

    def _step_function(self, optimizer: Any) -> Callable[..., Any]:
        model, loss, size = self._compressed.scores, self._loss, self._learn.size

        def on_replica(inputs: Any, targets: Any) -> Any:
            with tf.GradientTape() as tape:
                found = tf.reduce_sum(loss(_listed(model(inputs, training=True)), targets)) / size
            gradients = tape.gradient(found, _variables(model.trainable_variables))
            optimizer.apply(_filled(gradients, model.trainable_variables), model.trainable_variables)
            return found

        def step(inputs: Any, targets: Any) -> Any:
            found = self._strategy.run(on_replica, args=(inputs, targets))
            return self._strategy.reduce(tf.distribute.ReduceOp.SUM, found, axis=None)

        return tf.function(step)  # type: ignore[no-any-return]

    def _judge_function(self) -> Callable[..., Any]:
        model, loss = self._compressed.scores, self._loss
        return tf.function(lambda inputs, targets: tf.reduce_sum(loss(_listed(model(inputs, training=False)), targets)))  # type: ignore[no-any-return]

    def _judged(self, judge_function: Callable[..., Any]) -> float:
        parts = [
            float(judge_function(*([tf.convert_to_tensor(one) for one in arrays] for arrays in batch)))
            for batch in self._judge.in_order()
        ]
        return sum(parts) / self._judge.count


class _Best:
    """The weights with the least loss so far."""

    def __init__(self) -> None:
        self._loss = float("inf")
        self._weights: list[Any] | None = None

    def offer(self, loss: float, model: Any) -> bool:
        if not loss < self._loss:
            return False
        self._loss, self._weights = loss, model.get_weights()
        return True

    def restore(self, model: Any) -> None:
        if self._weights is not None:
            model.set_weights(self._weights)


def _built(wanted: Optimizer, steps: int, variables: Sequence[Any]) -> Any:
    rate = keras.optimizers.schedules.CosineDecay(wanted.learning_rate, max(1, steps), alpha=_LAST_RATE)
    if wanted.name is OptimizerName.ADAM:
        optimizer = keras.optimizers.Adam(rate)
    else:
        optimizer = keras.optimizers.SGD(rate, momentum=wanted.momentum)
    optimizer.build(variables)
    return optimizer


def _checked(loss: Any, phase: Phase, epoch: int) -> float:
    found = float(loss)
    if not np.isfinite(found):
        raise ConverterError(
            f"the loss is {found:g} in epoch {epoch} of {phase.name}; give a smaller --learning-rate, and look for "
            "samples that are much larger than the others",
            code=Code.TRAINING_DIVERGED,
        )
    return found


def _listed(outputs: Any) -> list[Any]:
    return list(keras.tree.flatten(outputs))


def _variables(variables: Sequence[Any]) -> list[Any]:
    return [variable.value for variable in variables]


def _filled(gradients: Sequence[Any], variables: Sequence[Any]) -> list[Any]:
    """Return a gradient for each variable; 0 for one that the scores do not depend on."""
    return [tf.zeros(v.shape) if g is None else g for g, v in zip(gradients, variables, strict=True)]
