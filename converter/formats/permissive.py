"""The child process that converts a model with every operation allowed, to see which ones it would need.

Job: ``format``, ``model`` and ``signature`` (or null). It leaves ``permissive.tflite``, in which an operation that
TensorFlow Lite does not have is there all the same, as a flex or custom operator with its name. It is never run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from edgeferry.converter.child import child_main, report_step
from edgeferry.converter.errors import SourceError
from edgeferry.converter.formats import keras_model
from edgeferry.converter.formats.refusals import refusal
from edgeferry.converter.formats.registry import FormatName
from edgeferry.converter.formats.slots import without_slots

_SERVING = "serving_default"


def main() -> None:
    """Do the job in the folder named on the command line."""
    child_main(_convert)


def _convert(job: dict[str, Any], folder: Path) -> Mapping[str, object]:
    path = Path(job["model"])
    report_step(folder, f"loading {path.name}")
    if job["format"] == FormatName.SAVED_MODEL:
        saved, keys = without_slots(path, folder / "without_slots"), [job["signature"]] if job["signature"] else None
    else:
        saved, keys = _exported(path, folder), [_SERVING]
    report_step(folder, f"converting {path.name} to TensorFlow Lite")
    try:
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=keys)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        converter.allow_custom_ops = True
        (folder / "permissive.tflite").write_bytes(converter.convert())
    except Exception as err:  # any failure of a foreign compiler is one answer to the user
        why = refusal(str(err))
        raise SourceError(f"{path.name} does not convert: {why.sentence}", code=why.code) from err
    return {}


def _exported(path: Path, folder: Path) -> Path:
    """Return the SavedModel of a Keras model with a batch of 1, made in ``folder``."""
    source = keras_model.load(path)
    shapes: dict[str, Any] = {  # None where TensorFlow shall keep a dimension open
        spec.name: tuple(1 if at == 0 else (None if size == -1 else size) for at, size in enumerate(spec.shape))
        for spec in source.inputs
    }
    try:
        source.to_tflite(shapes, folder)  # leaves the SavedModel also when built-in operations alone do not do
    except SourceError:
        if not (folder / "saved_model").is_dir():
            raise
    return folder / "saved_model"


if __name__ == "__main__":
    main()
