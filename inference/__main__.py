"""``python -m edgeferry.inference MODEL.tflite X.npy Y.npy``: run samples through a model on this machine.

Real numbers are quantized for a quantized input and its output comes back dequantized, as over the network. With
several outputs, Y has the first.
"""

import sys
from pathlib import Path

import numpy as np

from edgeferry.inference.model import Model
from edgeferry.inference.quantization import dequantize, is_quantized, quantize

__all__ = ["run"]


def run(model_file: Path, samples: np.ndarray) -> np.ndarray:
    """Return the first output for each of ``samples``, stacked along the first axis.

    Args:
        model_file: A ``.tflite`` with one input and a batch of 1.
        samples: Along the first axis, each of the input's shape after its batch.
    """
    model = Model.load(model_file)
    (source,), target = model.inputs, model.outputs[0]
    rows = []
    for sample in samples:
        x = quantize(sample[np.newaxis], source) if is_quantized(source) else sample[np.newaxis]
        rows.append(model.run({source.name: x})[target.name])
    outputs = np.concatenate(rows)
    return dequantize(outputs, target) if is_quantized(target) else outputs


def main(arguments: list[str]) -> None:
    """Do what the command line says."""
    model_file, source, target = arguments
    np.save(target, run(Path(model_file), np.load(source, allow_pickle=False)))


if __name__ == "__main__":
    main(sys.argv[1:])
