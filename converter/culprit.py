"""Which operation TensorFlow was computing when it aborted: it is made to do it again, and to say what it does.

TensorFlow's executor says each operation before it computes it, where its logging is turned up
(tensorflow/core/common_runtime/executor.cc). With one thread between operations, the last one said is the one.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from edgeferry.converter.child import printed, run_child
from edgeferry.converter.errors import ConverterError, CrashError
from edgeferry.converter.inspection.tflite_fusion import layer_of

__all__ = ["explained_crash", "last_operation"]

_TELLING = {"TF_CPP_VMODULE": "executor=1", "TF_CPP_MIN_LOG_LEVEL": "0", "TF_NUM_INTEROP_THREADS": "1"}
_SAID = re.compile(r"Process node: .*?\{\{node ([^}]+)\}\} = (\w+)\[")
_DEADLINE_S = 300.0  # nobody waits longer for a better sentence


def explained_crash(err: CrashError, module: str, job: Mapping[str, object], folder: Path) -> CrashError:
    """Return ``err`` with the layer and the operation that crashed, where that can be found, and what to do.

    Args:
        err: What running ``module`` came to.
        module: The child's.
        job: That it was given.
        folder: For the files of the second try.
    """
    try:
        run_child(module, job, folder=folder, what="the second try", deadline_s=_DEADLINE_S, environment=_TELLING)
    except CrashError:
        found = last_operation(printed(folder))
    except ConverterError:
        found = None
    else:
        found = None  # it does not crash each time
    if found is None:
        return CrashError(err.what, err.words, remedy="save the model in another format, and convert that")
    layer, operation = found
    remedy = "replace that operation, or leave its layer out of what is exported"
    return CrashError(err.what, err.words, where=f", computing {operation} (in {layer!r})", remedy=remedy)


def last_operation(log: str) -> tuple[str, str] | None:
    """Return layer and operation that the executor said last in ``log``, or None where it said none."""
    said = [found for found in _SAID.finditer(log) if not found[2].startswith("_")]
    return (layer_of(said[-1][1]), said[-1][2]) if said else None
