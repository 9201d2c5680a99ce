"""Pictures of a folder, decoded by Pillow, as an array of whole numbers in the declared size and colours.

Native code reads bytes that nobody vouches for, so this runs in a child process, with few formats and a limit of
pixels. Orientation that a camera has noted (EXIF) is not applied, as Keras and torchvision do not.
"""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from edgeferry.converter.errors import SamplesError
from edgeferry.inference.preprocessing import ImagePreprocessing, PreprocessingError
from edgeferry.inference.resampling import Pixels

__all__ = ["MAX_PIXELS", "fitted_picture", "read_picture"]

MAX_PIXELS = 64_000_000  # 8,000 x 8,000; 192 MB decoded

_FORMATS = ("BMP", "JPEG", "PNG", "WEBP")
_MODES = frozenset({"1", "CMYK", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr"})  # of 8 bits and fewer

Image.MAX_IMAGE_PIXELS = None  # our own limit is told better, and is held before anything is decoded


def read_picture(path: Path) -> Pixels:
    """Return the picture in a file: [height, width, 3], red, green and blue; transparency is left out.

    Raises:
        SamplesError: It is damaged, too large, or has more than 8 bits for each channel.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_FORMATS) as picture:
            _check(path, picture)
            return np.asarray(picture.convert("RGB"))
    except SamplesError:
        raise
    except UnidentifiedImageError as err:
        raise SamplesError(f"{path}: is no picture of a kind that is read ({', '.join(_FORMATS)})") from err
    except Exception as err:  # decoders raise OSError, SyntaxError, struct.error, ValueError and more for damage
        reason = " ".join(str(err).split())[:120] or type(err).__name__
        raise SamplesError(f"{path}: is damaged: {reason}; save it anew, or remove it") from err


def fitted_picture(path: Path, declared: ImagePreprocessing) -> Pixels:
    """Return the picture in a file in the declared size and colours.

    Raises:
        SamplesError: It cannot be read, or is too small to be cut.
    """
    try:
        return declared.fitted(read_picture(path))
    except PreprocessingError as err:
        raise SamplesError(f"{path}: {err}") from err


def _check(path: Path, picture: Image.Image) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise SamplesError(f"{path}: has {width} x {height} pixels, wanted {MAX_PIXELS} at most; make it smaller")
    if picture.mode not in _MODES:
        raise SamplesError(f"{path}: has pixels of the kind {picture.mode}; wanted 8 bits for each channel")
