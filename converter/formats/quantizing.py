"""The child process that makes one variant with TensorFlow's own converter, the second engine.

Job: ``format``, ``model``, ``signature`` (or null), ``shapes`` by input, ``samples``, ``scheme``, ``io`` and
``per_channel``. It leaves ``model.tflite``. The source is converted anew: TensorFlow's converter cannot quantize a
``.tflite``.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from edgeferry.converter.child import child_main, report_step
from edgeferry.converter.compaction import compacted
from edgeferry.converter.errors import QuantizationError
from edgeferry.converter.formats.refusals import refusal
from edgeferry.converter.formats.registry import FORMATS
from edgeferry.converter.formats.source import Source, fixed_shapes
from edgeferry.converter.samples import EncodedSamples, Samples
from edgeferry.converter.schemes import Io
from edgeferry.device_profiles import Scheme

_SIGNATURE = "serving_default"
_BORDERS = {Io.OWN: tf.int8, Io.UINT8: tf.uint8, Io.FLOAT32: tf.float32}
_INT16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8


def main() -> None:
    """Do the job in the folder named on the command line."""
    child_main(_quantize)


def _quantize(job: dict[str, Any], folder: Path) -> Mapping[str, object]:
    path = Path(job["model"])
    report_step(folder, f"loading {path.name}")
    module = importlib.import_module(next(known.module for known in FORMATS if known.name == job["format"]))
    source: Source = module.load(path, job["signature"])
    samples = Samples.open(Path(job["samples"])).bind(source.inputs)
    source.to_tflite(fixed_shapes(source.inputs, samples), folder)  # leaves the SavedModel with fixed shapes
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved_model"), signature_keys=[_SIGNATURE])
    _configure(converter, Scheme(job["scheme"]), Io(job["io"]), lambda: iter(EncodedSamples(samples, source.inputs)))
    converter._experimental_disable_per_channel = not job["per_channel"]  # noqa: SLF001 - there is no public name
    report_step(folder, "quantizing with TensorFlow")
    try:
        (folder / "model.tflite").write_bytes(compacted(converter.convert()))
    except Exception as err:  # any failure of a foreign compiler is one answer to the user
        raise QuantizationError(f"TensorFlow's converter refuses the model: {refusal(str(err)).sentence}") from err
    return {}


def _configure(converter: Any, scheme: Scheme, io: Io, samples: Callable[[], Iterable[dict[str, Any]]]) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    match scheme:
        case Scheme.FLOAT16:
            converter.target_spec.supported_types = [tf.float16]
        case Scheme.INT8:
            converter.representative_dataset = samples
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = _BORDERS[io]
        case Scheme.INT16X8:
            converter.representative_dataset = samples
            converter.target_spec.supported_ops = [_INT16]
            border = tf.float32 if io is Io.FLOAT32 else tf.int16
            converter.inference_input_type = converter.inference_output_type = border
        case _:
            pass  # dynamic range quantization is its default


if __name__ == "__main__":
    main()
