"""TensorFlow's protocol buffers without TensorFlow: its generated modules need the protobuf package alone.

Importing ``tensorflow`` takes seconds and 400 MB and starts its native code, which a look into a file does not need. So
in the child process that only reads, the packages on the way to the generated modules are taken as plain folders.
"""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

__all__ = ["saved_metadata", "saved_model", "tensor_bundle", "types"]


def saved_model() -> Any:
    """Return the module with ``SavedModel``."""
    return _generated("tensorflow.core.protobuf.saved_model_pb2")


def tensor_bundle() -> Any:
    """Return the module with ``BundleHeaderProto`` and ``BundleEntryProto``."""
    return _generated("tensorflow.core.protobuf.tensor_bundle_pb2")


def types() -> Any:
    """Return the module with the enumeration ``DataType``."""
    return _generated("tensorflow.core.framework.types_pb2")


def saved_metadata() -> Any:
    """Return the module with ``SavedMetadata``, in which Keras 2 keeps a model's architecture."""
    return _generated("tensorflow.python.keras.protobuf.saved_metadata_pb2")


def _generated(name: str) -> Any:
    *packages, _module = name.split(".")
    for depth in range(1, len(packages) + 1):
        _take_as_folder(".".join(packages[:depth]))
    return importlib.import_module(name)


def _take_as_folder(package: str) -> None:
    """Put a module without code into the place of ``package``, unless it has been imported already."""
    if package in sys.modules:
        return
    spec = importlib.util.find_spec(package)  # of a package below another it runs only the upper one, which is ours
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError(f"no module {package}; install edgeferry[host]")
    folder = ModuleType(package)
    folder.__path__ = list(spec.submodule_search_locations)
    folder.__spec__ = spec
    sys.modules[package] = folder
