"""Writes each epoch where TensorBoard finds it."""

from pathlib import Path

import tensorflow as tf

from edgeferry.converter.training.observing import Epoch, Observer

__all__ = ["Board"]


class Board:
    """Passes on what an observer is told, and writes the losses of epochs as TensorBoard's events.

    Args:
        observer: Who is told.
        folder: For the events; a run of TensorBoard's.
    """

    def __init__(self, observer: Observer, folder: Path) -> None:
        self._observer = observer
        self._writer = tf.summary.create_file_writer(str(folder))
        self._epochs = 0

    def step(self, done: int, total: int) -> bool:
        """Pass it on."""
        return self._observer.step(done, total)

    def epoch(self, epoch: Epoch) -> None:
        """Write its losses below the name of its phase, and pass it on."""
        self._epochs += 1
        with self._writer.as_default(step=self._epochs):
            self._scalar(f"{epoch.phase}/loss", epoch.loss)
            self._scalar(f"{epoch.phase}/loss on samples held back", epoch.held_back_loss)
        self._writer.flush()
        self._observer.epoch(epoch)

    def _scalar(self, tag: str, value: float) -> None:
        """Write what tf.summary.scalar would, which itself needs the tensorboard package."""
        metadata = tf.compat.v1.SummaryMetadata()
        metadata.plugin_data.plugin_name = "scalars"
        metadata.data_class = 1  # DATA_CLASS_SCALAR
        tf.summary.write(tag, tf.constant(value, tf.float32), metadata=metadata)
