"""Models of any format as `prediction` runs them: what they take and give, what they say of themselves, one run."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgeferry.converter.errors import RequestError, SourceError
from edgeferry.converter.formats.registry import FORMATS, FormatName
from edgeferry.inference.description import Description, describe
from edgeferry.inference.model import Model, ModelError, specs_of

__all__ = ["LoadedModel", "load_model"]

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model of any format, loaded.

    Attributes:
        description: What it takes and gives, and says of itself; a source model's outputs are not known before a run.
        run: Answers one batch; what a stateful model remembers is forgotten before.
    """

    description: Description
    run: Callable[[Tensors], Tensors]


def load_model(path: Path, name: FormatName, signature: str | None) -> LoadedModel:
    """Return the model at ``path``, ready to run.

    Args:
        path: Of a format that ``name`` names.
        name: The format.
        signature: Which one; the serving one, or the only one, unless given.

    Raises:
        RequestError: It has no such signature.
        SourceError: It cannot be loaded.
    """
    if name is FormatName.TFLITE:
        return _tflite(path, signature)
    module = next(known.module for known in FORMATS if known.name is name)
    source = importlib.import_module(module).load(path, signature)
    return LoadedModel(Description(source.inputs, ()), source.run)


def _tflite(path: Path, signature: str | None) -> LoadedModel:
    try:
        model = Model.load(path)
        if signature is not None:
            return _by_signature(path, model, signature)
    except ModelError as err:
        raise SourceError(str(err)) from err

    def run(inputs: Tensors) -> Tensors:
        model.reset()
        return model.run(inputs)

    return LoadedModel(model.description, run)


def _by_signature(path: Path, model: Model, signature: str) -> LoadedModel:
    """Return one signature of a model, which may stand for another subgraph than the first."""
    found = model.interpreter.get_signature_list()
    if signature not in found:
        raise RequestError(f"--signature {signature!r}: {path.name} has {', '.join(sorted(found)) or 'none'}")
    runner = model.interpreter.get_signature_runner(signature)
    description = describe(path, specs_of(runner.get_input_details()), specs_of(runner.get_output_details()))

    def run(inputs: Tensors) -> Tensors:
        model.reset()
        try:
            answer: Tensors = runner(**inputs)
        except (ValueError, RuntimeError) as err:
            raise ModelError(f"the model failed to run: {' '.join(str(err).split())[:500]}") from err
        return answer

    return LoadedModel(description, run)
