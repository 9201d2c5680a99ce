"""One training from the source model to the files that leave the child process."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgeferry.converter.arrays import write_arrays
from edgeferry.converter.child import report_step
from edgeferry.converter.errors import Code, ConversionDiffersError, ConverterError, SourceError
from edgeferry.converter.formats import keras_model
from edgeferry.converter.formats.source import fixed_shapes
from edgeferry.converter.samples import Samples
from edgeferry.converter.training.batches import Batches, split
from edgeferry.converter.training.board import Board
from edgeferry.converter.training.channels import (
    find_channels,
    kept_for_saving,
    kept_for_share,
    multiply_accumulates,
    narrowed,
)
from edgeferry.converter.training.checkpoints import Checkpoints, Standing
from edgeferry.converter.training.export import float_tflite, integer_tflite
from edgeferry.converter.training.graph import Graph, flatten
from edgeferry.converter.training.lesson import Lesson, prepared
from edgeferry.converter.training.loop import Phase, Trainer
from edgeferry.converter.training.observing import Epoch, FolderObserver
from edgeferry.converter.training.phases import ClusteringPhase, PlainPhase, PruningPhase, QuantizingPhase
from edgeferry.converter.training.plain import plain
from edgeferry.converter.training.recipe import Pattern, Recipe, Technique
from edgeferry.converter.training.rewriter import CompressedModel, check_quantizable, finished, rewrite
from edgeferry.converter.training.running import run
from edgeferry.converter.training.spreading import LOST, broadcast, gpus, lost, strategy_of
from edgeferry.converter.training.strategies import Cluster, chosen

__all__ = ["LayerReport", "Report", "Training"]

_COMPARED = 32  # samples on which the plain form has to answer as the model does
_TOLERANCE = 1e-3  # of the largest answer
_NOT_A_GRAPH = frozenset({Code.CUSTOM_CLASS, Code.LAMBDA_LAYER, Code.SUBCLASSED_MODEL})
_BATCH = 256  # of the samples that ranges begin with


@dataclass(frozen=True, slots=True)
class LayerReport:
    """What became of a layer.

    Attributes:
        sparsity: Share of its weights that are 0.
        values: How many different numbers its weights are, of a quantized one integers.
    """

    name: str
    kind: str
    weights: int
    sparsity: float
    values: int


@dataclass(frozen=True, slots=True)
class Report:
    """What a training came to.

    Attributes:
        epochs: Each of them.
        is_complete: Whether nobody stopped it.
        layers: Those with weights.
        multiply_accumulates: Of the source and of the trained model, for one inference.
        weights_sha256: Of all variables, which are the same on every worker.
        inputs: Of the model, as `TensorSpec`.
    """

    epochs: tuple[Epoch, ...]
    is_complete: bool
    layers: tuple[LayerReport, ...]
    multiply_accumulates: tuple[int, int]
    weights_sha256: str
    inputs: Any


@dataclass(frozen=True)
class Training:
    """A training; see `__main__`."""

    model: Path
    data: Path
    evaluation: Path
    recipe: Recipe
    keeps_float: bool
    folder: Path
    cluster: Cluster | None = None
    checkpoints: Checkpoints | None = None
    resumes: bool = False
    board: Path | None = None

    def run(self) -> Report:
        """Train and leave the files.

        Raises:
            ConverterError: The model or the samples cannot be used, or the training failed.
        """
        strategy = strategy_of(chosen(self.recipe.strategy, self.cluster, gpus()))
        keras.utils.set_random_seed(self.recipe.seed)
        tf.config.experimental.enable_op_determinism()
        evaluation = self._evaluation  # said now, not after the training
        given = self._plain()
        graph = self._student(given)
        lesson = prepared(self._source, graph, self._samples, self._inputs, self.recipe)
        with strategy.scope():
            compressed = rewrite(
                graph,
                is_quantized=self._is_quantized,
                is_clustered=Technique.CLUSTERING in self.recipe.techniques,
                watched=lesson.watched,
            )
        observer = FolderObserver(self.folder, self.recipe.minutes)
        watcher = observer if self.board is None or not self._is_chief else Board(observer, self.board)
        trainer = self._trainer(compressed, lesson, strategy)
        try:
            is_complete = trainer.run(
                self._phases(), watcher, keep=self._keep, standing=self._standing(strategy) if self.resumes else None
            )
        except LOST as err:
            if self.cluster is None:
                raise
            raise lost(err) from err
        if self._is_chief:
            self._export(compressed, evaluation)
        weights = self._same_everywhere(compressed, strategy)  # and nobody leaves before the chief has written
        layers = tuple(_report(layer) for layer in compressed.layers.values())
        work = multiply_accumulates(given), multiply_accumulates(graph)
        return Report(tuple(observer.epochs), is_complete, layers, work, weights, self._source.inputs)

    @property
    def _is_chief(self) -> bool:
        return self.cluster is None or self.cluster.is_chief

    @property
    def _is_quantized(self) -> bool:
        return Technique.QAT in self.recipe.techniques

    @cached_property
    def _source(self) -> keras_model.KerasSource:
        report_step(self.folder, f"loading {self.model.name}")
        try:
            return keras_model.load(self.model)
        except SourceError as err:
            if err.code not in _NOT_A_GRAPH:
                raise
            raise SourceError(
                f"{self.model.name} has layers of a class of its own, called by Python code that is not in the file; "
                "build it of Keras's layers as a Functional model, keras.Model(inputs, outputs), or convert it without "
                "training",
                code=err.code,
            ) from err

    @cached_property
    def _samples(self) -> Samples:
        return Samples.load(self.data)

    @cached_property
    def _inputs(self) -> list[NDArray[Any]]:
        bound = self._samples.bind(self._source.inputs)
        return [bound[spec.name][:] for spec in self._source.inputs]  # held: every epoch mixes them anew

    @cached_property
    def _evaluation(self) -> list[NDArray[Any]]:
        bound = Samples.load(self.evaluation).bind(self._source.inputs)
        return [bound[spec.name][:] for spec in self._source.inputs]  # held: every epoch mixes them anew

    def _plain(self) -> Graph:
        report_step(self.folder, f"rewriting {self.model.name}")
        graph = plain(flatten(self._source.model, self.model.name))
        if self._is_quantized and not self.keeps_float:
            check_quantizable(graph, self.model.name)
        self._check(graph)
        return graph

    def _student(self, graph: Graph) -> Graph:
        """Return ``graph`` with as many channels as the recipe leaves it."""
        recipe = self.recipe
        if Technique.DISTILLATION in recipe.techniques and recipe.distillation.width < 1:
            channels = find_channels(graph)
            graph = narrowed(graph, channels, kept_for_share(graph, channels, recipe.distillation.width))
        if Technique.PRUNING in recipe.techniques and recipe.pruning.pattern is Pattern.CHANNELS:
            channels = find_channels(graph)
            graph = narrowed(graph, channels, kept_for_saving(graph, channels, recipe.pruning.sparsity))
        return graph

    def _same_everywhere(self, compressed: CompressedModel, strategy: Any) -> str:
        """Return the hash of the weights.

        Raises:
            ConverterError: The chief has others.
        """
        digest = hashlib.sha256(b"".join(array.tobytes() for array in compressed.model.get_weights()))
        mine = np.frombuffer(digest.digest(), np.uint8).astype(np.float64)
        if not np.array_equal(broadcast(strategy, mine), mine):
            raise ConverterError("this worker's weights differ from the chief's; please report this")
        return digest.hexdigest()

    def _keep(self, standing: Standing) -> None:
        if self._is_chief and self.checkpoints is not None:
            self.checkpoints.save(standing)

    def _standing(self, strategy: Any) -> Standing:
        """Return where to go on, as the chief knows it; the others learn the variables later."""
        mine = self.checkpoints.load() if self._is_chief and self.checkpoints is not None else Standing(0, 0, 0, 0.0)
        told = broadcast(strategy, np.array([mine.phase, mine.epoch, mine.epochs, mine.best_loss]))
        phase, epoch, epochs = (int(number) for number in told[:3])
        return replace(mine, phase=phase, epoch=epoch, epochs=epochs, best_loss=float(told[3]))

    def _trainer(self, compressed: CompressedModel, lesson: Lesson, strategy: Any) -> Trainer:
        learn, judge = split(
            self._inputs,
            lesson.targets,
            held_back=self.recipe.held_back,
            batch_size=self.recipe.batch_size,
            replicas=strategy.num_replicas_in_sync,
            seed=self.recipe.seed,
            where=str(self.data),
        )
        return Trainer(
            compressed,
            lesson.loss,
            learn,
            judge,
            optimizer=self.recipe.optimizer,
            strategy=strategy,
            seed=self.recipe.seed,
        )

    def _phases(self) -> list[Phase]:
        recipe = self.recipe
        is_narrowed = recipe.pruning.pattern is Pattern.CHANNELS
        first = [one[: recipe.qat.calibration] for one in self._inputs]
        calibration = [inputs for inputs, _ in Batches(first, [], min(_BATCH, len(first[0]))).in_order()]
        made: dict[Technique, Phase] = {
            Technique.DISTILLATION: PlainPhase("distillation", recipe.epochs),
            Technique.PRUNING: (
                PlainPhase("training on after pruning", recipe.epochs)
                if is_narrowed
                else PruningPhase(recipe.pruning, recipe.epochs)
            ),
            Technique.CLUSTERING: ClusteringPhase(recipe.clustering, recipe.epochs, recipe.seed),
            Technique.QAT: QuantizingPhase(recipe.qat, recipe.epochs, calibration),
        }
        return [made[technique] for technique in recipe.techniques]

    def _check(self, graph: Graph) -> None:
        """Do nothing when ``graph`` answers as the source does.

        Raises:
            ConversionDiffersError: It does not.
        """
        few = [one[:_COMPARED] for one in self._inputs]
        model = rewrite(graph, is_quantized=False).model
        for name, wanted, found in zip(
            self._source.output_names, run(self._source.model, few), run(model, few), strict=True
        ):
            difference = float(np.abs(wanted - found).max())
            if difference > _TOLERANCE * max(1e-6, float(np.abs(wanted).max())):
                raise ConversionDiffersError(
                    f"{self.model.name}: output {name!r} of the rewritten model differs by {difference:g} before any "
                    "training; please report the layers that the model has"
                )

    def _export(self, compressed: CompressedModel, evaluation: list[NDArray[Any]]) -> None:
        report_step(self.folder, "writing the trained model")
        bound = {spec.name: one for spec, one in zip(self._source.inputs, evaluation, strict=True)}
        shapes = fixed_shapes(self._source.inputs, bound)
        names = self._source.output_names
        (self.folder / "source.tflite").write_bytes(float_tflite(self._source, shapes, self.folder / "source_files"))
        finished(compressed, is_rounding=False).save(self.folder / "model.keras")
        last = keras_model.KerasSource(self.model.name, finished(compressed, is_rounding=True), names)
        answers = dict(zip(names, run(compressed.model, evaluation), strict=True))
        write_arrays(self.folder / "answers", {name: array[:, np.newaxis] for name, array in answers.items()})
        files = self.folder / "model_files"
        model = (
            integer_tflite(last, shapes, files, may_mix=self.keeps_float)
            if self._is_quantized
            else float_tflite(last, shapes, files)
        )
        (self.folder / "model.tflite").write_bytes(model)


def _report(layer: Any) -> LayerReport:
    kernel = layer.integers() if layer.is_quantized else layer.kernel().numpy()
    return LayerReport(
        layer.original, layer.kind, int(kernel.size), float((kernel == 0).mean()), len(np.unique(kernel))
    )
