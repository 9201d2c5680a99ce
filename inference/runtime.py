"""Which TensorFlow Lite runtime runs the models: ai-edge-litert, else its predecessor tflite-runtime.

tflite-runtime ended with 2.14.0, and is all there is for 32-bit ARM. Both have the same ``Interpreter``.
"""

import importlib
import importlib.metadata
import importlib.util
from typing import Any

__all__ = ["PACKAGE", "load_runtime", "new_interpreter", "runtime_version"]

_MODULES = {"ai-edge-litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}


def _installed_package() -> str:
    # Asked for, not tried: an installed runtime that fails to load has to say why, not to look absent.
    for package, module in _MODULES.items():
        if importlib.util.find_spec(module) is not None:
            return package
    raise ModuleNotFoundError("no TensorFlow Lite runtime; install ai-edge-litert (or tflite-runtime on 32-bit ARM)")


PACKAGE = _installed_package()


def load_runtime() -> Any:
    """Return the runtime's module; its native code is in memory then.

    Raises:
        ImportError: It is installed and does not load on this machine.
    """
    return importlib.import_module(f"{_MODULES[PACKAGE]}.interpreter")


def new_interpreter(model_path: str, *, threads: int, keeps_tensors: bool = False) -> Any:
    """Return an interpreter of the file at ``model_path``, memory-mapped, its tensors not allocated yet.

    Args:
        model_path: The file.
        threads: How many may compute.
        keeps_tensors: Whether every tensor can be looked at after a run; slow, and without delegates, which hide them.

    Raises:
        ValueError: The file is not a model.
    """
    module = load_runtime()
    if keeps_tensors:
        return module.Interpreter(
            model_path=model_path,
            num_threads=threads,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
    return module.Interpreter(model_path=model_path, num_threads=threads)


def runtime_version() -> str:
    """Return the version of the runtime's package."""
    return importlib.metadata.version(PACKAGE)
