"""Samples that a function of the user's yields, one by one, as a folder of arrays.

It is the user's own code, named by the user on the command line; it runs in this child process alone.
"""

import importlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeferry.converter.child import report_step
from edgeferry.converter.errors import RequestError, SamplesError
from edgeferry.converter.preparing.packed import MAX_UNPACKED_BYTES
from edgeferry.converter.sample_folder import ArrayWriter, Contents, write_contents

__all__ = ["is_function", "write_yielded"]

_NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_PAIR = 2  # a sample and its label


def is_function(source: Path) -> bool:
    """Return whether ``source`` names a function, ``module:function``, and no file."""
    return _NAME.fullmatch(str(source)) is not None and not source.exists()


def write_yielded(name: str, made: Path, folder: Path) -> None:
    """Write what the function yields into the folder ``made``.

    Args:
        name: ``module:function``; the module is looked for in the current folder first.
        made: Is there, and empty.
        folder: Of the child.

    Raises:
        RequestError: There is no such function.
        SamplesError: It fails, or yields what cannot be samples.
    """
    writers: dict[str, ArrayWriter] = {}
    for number, item in enumerate(_yielded(name, _found(name))):
        report_step(folder, f"{name} has yielded {number} samples")
        arrays = _arrays(f"{name}, sample {number}", item)
        if not writers:
            files = {key: made / f"{at}.npy" for at, key in enumerate(arrays)}
            writers = {key: ArrayWriter(files[key], one.shape, one.dtype) for key, one in arrays.items()}
        _append(f"{name}, sample {number}", writers, arrays)
    if not writers:
        raise SamplesError(f"{name}: has yielded no samples; wanted arrays, or pairs of an array and its label")
    for writer in writers.values():
        writer.close()
    write_contents(made, Contents({key: f"{at}.npy" for at, key in enumerate(writers)}))


def _found(name: str) -> Callable[[], Iterable[Any]]:
    module, _, function = name.partition(":")
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - Python itself wants a text there
    try:
        found = getattr(importlib.import_module(module), function, None)
    except Exception as err:  # whatever the user's module does while it is imported
        raise RequestError(f"{name}: the module {module!r} cannot be imported: {_told(err)}") from err
    if not callable(found):
        raise RequestError(f"{name}: the module {module!r} has no function {function!r}")
    return found  # type: ignore[no-any-return] # whatever it is, calling it is tried


def _yielded(name: str, function: Callable[[], Iterable[Any]]) -> Iterator[Any]:
    try:
        yield from function()
    except Exception as err:  # whatever the user's function does
        raise SamplesError(f"{name} failed: {_told(err)}") from err


def _told(err: Exception) -> str:
    """Return the error and the line of the user's code where it came up."""
    frames = [
        frame
        for frame in traceback.extract_tb(err.__traceback__)
        if frame.filename != __file__ and not frame.filename.startswith("<")
    ]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(err).__name__}: {' '.join(str(err).split())[:300]}{where}"


def _arrays(where: str, item: Any) -> dict[str, NDArray[Any]]:
    sample, label = item if isinstance(item, tuple) and len(item) == _PAIR else (item, None)
    named = dict(sample) if isinstance(sample, Mapping) else {"x": sample}
    arrays = {str(key): _array(where, value) for key, value in named.items()}
    return arrays if label is None else arrays | {"y": _array(where, label)}


def _array(where: str, value: Any) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except Exception as err:  # a tensor of any library may refuse in its own way
        raise SamplesError(f"{where}: is no array: {_told(err)}") from err
    if array.dtype.kind not in "fiub":
        raise SamplesError(f"{where}: holds {array.dtype}; wanted numbers of equal shapes")
    if not np.isfinite(array).all():
        raise SamplesError(f"{where}: holds NaN or infinity; leave it out, or repair it")
    return array


def _append(where: str, writers: Mapping[str, ArrayWriter], arrays: Mapping[str, NDArray[Any]]) -> None:
    if set(arrays) != set(writers):
        raise SamplesError(f"{where}: has {', '.join(sorted(arrays))}, the first one had {', '.join(sorted(writers))}")
    for key, array in arrays.items():
        writer = writers[key]
        if (array.shape, array.dtype) != (writer.shape, writer.dtype):
            found, wanted = f"{array.dtype}{list(array.shape)}", f"{writer.dtype}{list(writer.shape)}"
            raise SamplesError(f"{where}: {key} is {found}, that of the first one was {wanted}")
        writer.append(array[np.newaxis])
    if sum(writer.count * writer.row_bytes for writer in writers.values()) > MAX_UNPACKED_BYTES:
        raise SamplesError(f"{where}: the samples are more than {MAX_UNPACKED_BYTES} bytes by now; let it end sooner")
