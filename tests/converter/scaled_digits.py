"""Scales the channels of a trained digits model so that its float answers stay the same, and int8 suffers.

Run as ``python scaled_digits.py IN.keras OUT.keras``: each channel of the second convolution is multiplied by up to
300, which the third one takes back.
"""

import sys

import keras
import numpy as np


def main(source: str, target: str) -> None:
    """Do what the command line says."""
    model = keras.models.load_model(source)
    _, second, third = (layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    kernel, bias = second.get_weights()
    factors = np.exp(np.random.default_rng(3).uniform(0, np.log(300), kernel.shape[-1])).astype(np.float32)
    second.set_weights([kernel * factors, bias * factors])
    kernel, bias = third.get_weights()
    third.set_weights([kernel / factors[:, None], bias])
    model.save(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
