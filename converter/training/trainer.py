"""One training from the source model to the files that leave the child process."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgeferry.converter.arrays import write_arrays
from edgeferry.converter.child import report_step
from edgeferry.converter.errors import Code, ConversionDiffersError, SourceError
from edgeferry.converter.formats import keras_model
from edgeferry.converter.formats.source import fixed_shapes
from edgeferry.converter.samples import Samples
from edgeferry.converter.training.batches import Batches, split
from edgeferry.converter.training.export import float_tflite, integer_tflite
from edgeferry.converter.training.graph import Graph, flatten
from edgeferry.converter.training.loop import Phase, Trainer
from edgeferry.converter.training.losses import Loss, divergence, label_loss
from edgeferry.converter.training.observing import Epoch, FolderObserver
from edgeferry.converter.training.phases import ClusteringPhase, PruningPhase, QuantizingPhase
from edgeferry.converter.training.plain import plain
from edgeferry.converter.training.recipe import Recipe, Technique
from edgeferry.converter.training.rewriter import CompressedModel, check_quantizable, finished, rewrite

__all__ = ["LayerReport", "Report", "Training"]

_COMPARED = 32  # samples on which the plain form has to answer as the model does
_TOLERANCE = 1e-3  # of the largest answer
_NOT_A_GRAPH = frozenset({Code.CUSTOM_CLASS, Code.LAMBDA_LAYER, Code.SUBCLASSED_MODEL})
_BATCH = 256  # for runs without training


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
        inputs: Of the model, as `TensorSpec`.
    """

    epochs: tuple[Epoch, ...]
    is_complete: bool
    layers: tuple[LayerReport, ...]
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

    def run(self) -> Report:
        """Train and leave the files.

        Raises:
            ConverterError: The model or the samples cannot be used, or the training failed.
        """
        keras.utils.set_random_seed(self.recipe.seed)
        tf.config.experimental.enable_op_determinism()
        evaluation = self._evaluation  # said now, not after the training
        graph = self._plain()
        is_clustered = Technique.CLUSTERING in self.recipe.techniques
        compressed = rewrite(graph, is_quantized=self._is_quantized, is_clustered=is_clustered)
        observer = FolderObserver(self.folder, self.recipe.minutes)
        is_complete = self._trainer(compressed).run(self._phases(compressed), observer)
        self._export(compressed, evaluation)
        layers = tuple(_report(layer) for layer in compressed.layers.values())
        return Report(tuple(observer.epochs), is_complete, layers, self._source.inputs)

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
        return graph

    def _trainer(self, compressed: CompressedModel) -> Trainer:
        self._check_plain(compressed)
        loss, targets = self._loss(compressed)
        learn, judge = split(
            self._inputs,
            targets,
            held_back=self.recipe.held_back,
            batch_size=self.recipe.batch_size,
            seed=self.recipe.seed,
            where=str(self.data),
        )
        return Trainer(
            compressed,
            loss,
            learn,
            judge,
            optimizer=self.recipe.optimizer,
            strategy=tf.distribute.get_strategy(),
            seed=self.recipe.seed,
        )

    def _loss(self, compressed: CompressedModel) -> tuple[Loss, list[NDArray[Any]]]:
        labels = self._samples.labels
        if labels is None:
            answers = _run(compressed.scores, self._inputs)
            return divergence(compressed.graph, 1.0), answers
        shapes = [tuple(tensor.shape) for tensor in compressed.scores.outputs]
        loss = label_loss(compressed.graph, shapes, labels, str(self.data))
        return lambda scores, targets: loss(scores, targets[0]), [labels]

    def _phases(self, compressed: CompressedModel) -> list[Phase]:
        recipe = self.recipe
        first = [one[: recipe.qat.calibration] for one in self._inputs]
        calibration = [inputs for inputs, _ in Batches(first, [], min(_BATCH, len(first[0]))).in_order()]
        made: dict[Technique, Phase] = {
            Technique.PRUNING: PruningPhase(recipe.pruning, recipe.epochs),
            Technique.CLUSTERING: ClusteringPhase(recipe.clustering, recipe.epochs, recipe.seed),
            Technique.QAT: QuantizingPhase(recipe.qat, recipe.epochs, calibration),
        }
        return [made[technique] for technique in recipe.techniques if technique in made]

    def _check_plain(self, compressed: CompressedModel) -> None:
        """Do nothing when the rewritten model answers as the source does.

        Raises:
            ConversionDiffersError: It does not.
        """
        few = [one[:_COMPARED] for one in self._inputs]
        for name, wanted, found in zip(
            self._source.output_names, _run(self._source.model, few), _run(compressed.model, few), strict=True
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
        answers = dict(zip(names, _run(compressed.model, evaluation), strict=True))
        write_arrays(self.folder / "answers", {name: array[:, np.newaxis] for name, array in answers.items()})
        files = self.folder / "model_files"
        model = (
            integer_tflite(last, shapes, files, may_mix=self.keeps_float)
            if self._is_quantized
            else float_tflite(last, shapes, files)
        )
        (self.folder / "model.tflite").write_bytes(model)


def _run(model: Any, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return the outputs of ``model`` for all samples."""
    run = tf.function(lambda batch: keras.tree.flatten(model(batch, training=False)))
    parts = [
        run([tf.convert_to_tensor(one[at : at + _BATCH]) for one in inputs]) for at in range(0, len(inputs[0]), _BATCH)
    ]
    return [np.concatenate([part[at].numpy() for part in parts]) for at in range(len(parts[0]))]


def _report(layer: Any) -> LayerReport:
    kernel = layer.integers() if layer.is_quantized else layer.kernel().numpy()
    return LayerReport(
        layer.original, layer.kind, int(kernel.size), float((kernel == 0).mean()), len(np.unique(kernel))
    )
