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
from edgeferry.converter.training.checkpoints import Standing
from edgeferry.converter.training.losses import Loss
from edgeferry.converter.training.observing import Epoch, Observer
from edgeferry.converter.training.recipe import Optimizer, OptimizerName
from edgeferry.converter.training.rewriter import CompressedModel
from edgeferry.converter.training.spreading import broadcast

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
        """Bring about at once what steps have not brought about, because there were too few of them."""
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
        self._total = 0
        self._best = _Best()

    def run(
        self,
        phases: Sequence[Phase],
        observer: Observer,
        *,
        keep: Callable[[Standing], None] = lambda standing: None,
        standing: Standing | None = None,
    ) -> bool:
        """Go through ``phases``; return whether all was done that was to do.

        Args:
            phases: In order.
            observer: Told how far it is; can stop it.
            keep: Given the standing after each epoch.
            standing: Where to go on.

        Raises:
            ConverterError: The loss is no number any more.
        """
        goes_on = True
        self._total = sum(phase.epochs for phase in phases) * self._learn.per_epoch
        for number, phase in enumerate(phases):
            with self._strategy.scope():
                phase.begin(self._compressed)
            if standing is not None and number < standing.phase:
                phase.finish(self._compressed)
                continue
            if goes_on:
                here = standing if standing is not None and number == standing.phase else None
                goes_on = self._train(phase, number, observer, keep, here)
            phase.finish(self._compressed)
        return goes_on

    def _train(
        self, phase: Phase, number: int, observer: Observer, keep: Callable[[Standing], None], here: Standing | None
    ) -> bool:
        """Go through the epochs of ``phase`` that ``here`` has not; return whether nobody has stopped it."""
        model, steps = self._compressed.scores, phase.epochs * self._learn.per_epoch
        with self._strategy.scope():
            optimizer = _built(self._optimizer_wanted, steps, model.trainable_variables)
            self._best = _Best() if here is None else self._restored(phase, optimizer, here, steps)
        self._trace(optimizer)
        if here is None:
            self._best.offer(self._judged(), model)  # training shall not make it worse
        loss: float | None = 0.0
        for epoch in range(here.epoch if here is not None else 0, phase.epochs):
            loss = self._epoch(phase, epoch, steps, optimizer, observer)
            if loss is None:
                break
            self._epochs_done += 1
            judged = self._judged()
            is_best = self._best.offer(judged, model)
            observer.epoch(Epoch(phase.name, epoch + 1, phase.epochs, loss, judged, is_best))
            variables, others = _arrays(model.variables), _arrays(optimizer.variables)
            keep(Standing(number, epoch + 1, self._epochs_done, self._best.loss, variables, others, self._best.weights))
        self._restore_best()
        return loss is not None

    def _epoch(self, phase: Phase, epoch: int, steps: int, optimizer: Any, observer: Observer) -> float | None:
        """Return the mean loss of the epoch's steps; None when somebody has stopped it."""
        losses = []
        first = epoch * self._learn.per_epoch
        for at, (inputs, targets) in enumerate(self._learn.shuffled(self._seed, self._epochs_done)):
            if not observer.step(self._epochs_done * self._learn.per_epoch + at, self._total):
                return None
            change = phase.before_step(self._compressed, first + at, steps)
            if change is Change.GRAPH:
                self._trace(optimizer)
            if change is not Change.NOTHING:
                self._best = _Best()
            losses.append(_checked(self._step(self._shared(inputs), self._shared(targets)), phase, epoch + 1))
        return float(np.mean(losses))

    def _restored(self, phase: Phase, optimizer: Any, here: Standing, steps: int) -> "_Best":
        """Bring model and optimizer where they stood, and return the best weights until then."""
        if here.epoch:
            phase.before_step(self._compressed, here.epoch * self._learn.per_epoch - 1, steps)
        model = self._compressed.scores
        for variables, values in ((model.variables, here.variables), (optimizer.variables, here.optimizer)):
            for variable, value in zip(variables, self._from_chief(values, variables), strict=True):
                variable.assign(value)
        self._epochs_done = here.epochs
        return _Best(here.best_loss, self._from_chief(here.best, model.weights))

    def _from_chief(self, values: Sequence[NDArray[Any]], variables: Sequence[Any]) -> list[NDArray[Any]]:
        """Return the chief's ``values``; the other workers have none."""
        mine = values or [np.zeros(variable.shape, variable.dtype) for variable in variables]
        return [broadcast(self._strategy, one) for one in mine]

    def _restore_best(self) -> None:
        with self._strategy.scope():
            self._best.restore(self._compressed.scores)

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

    def _trace(self, optimizer: Any) -> None:
        """Have steps and judgements compute what the model computes now."""
        self._step = self._step_function(optimizer)
        self._judge_batch = self._judge_function()

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

    def _judged(self) -> float:
        parts = [
            float(self._judge_batch(*([tf.convert_to_tensor(one) for one in arrays] for arrays in batch)))
            for batch in self._judge.in_order()
        ]
        return sum(parts) / self._judge.count


class _Best:
    """The weights with the least loss so far; none at first."""

    def __init__(self, loss: float = float("inf"), weights: Sequence[NDArray[Any]] = ()) -> None:
        self.loss = loss
        self.weights = weights

    def offer(self, loss: float, model: Any) -> bool:
        if not loss < self.loss:
            return False
        self.loss, self.weights = loss, model.get_weights()
        return True

    def restore(self, model: Any) -> None:
        if self.weights:
            model.set_weights(self.weights)


def _arrays(variables: Sequence[Any]) -> list[NDArray[Any]]:
    return [variable.numpy() for variable in variables]


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
