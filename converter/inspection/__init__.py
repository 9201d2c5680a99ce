"""What is inside a model, told without running it: SavedModel, ``.keras``, ``.h5``, ``.tflite`` and artifact folders.

`inspect_model` is the library call; it reads in a child process and returns the typed facts of `facts`.
"""

from edgeferry.converter.inspection.inspector import inspect_model

__all__ = ["inspect_model"]
