"""Tells how far our pictures are from Keras's own; run as ``python keras_pictures.py FOLDER`` with pictures in it.

Prints as JSON the greatest difference in levels of a channel, by what `image_dataset_from_directory` was asked for.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np

from edgeferry.converter.preparing.images import fitted_picture
from edgeferry.inference.preprocessing import Fit, ImagePreprocessing, Resize
from edgeferry.inference.resampling import Method

HEIGHT, WIDTH = 24, 30


def greatest_difference(folder: Path, method: Method, *, is_cropped: bool) -> float:
    """Return by how much the picture farthest off is."""
    found = keras.utils.image_dataset_from_directory(
        folder,
        labels=None,
        image_size=(HEIGHT, WIDTH),
        interpolation=str(method),
        crop_to_aspect_ratio=is_cropped,
        shuffle=False,
        verbose=False,
    )
    fit = Fit.COVER if is_cropped else Fit.STRETCH
    declared = ImagePreprocessing(resize=Resize(height=HEIGHT, width=WIDTH, fit=fit, method=method, antialias=False))
    ours = np.stack([fitted_picture(path, declared) for path in sorted(folder.glob("*.png"))])
    return float(np.abs(next(iter(found)).numpy() - ours).max())


if __name__ == "__main__":
    asked = [(method, is_cropped) for method in (Method.BILINEAR, Method.NEAREST) for is_cropped in (False, True)]
    told = {
        f"{method}{', cropped' if is_cropped else ''}": greatest_difference(
            Path(sys.argv[1]), method, is_cropped=is_cropped
        )
        for method, is_cropped in asked
    }
    print(json.dumps(told))
