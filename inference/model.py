"""A TensorFlow Lite model that can be run: tensors by name in, tensors by name out.

Decides how tensors are named: by the signature of the primary subgraph where there is one (``serving_default`` before
others), by the tensors' own names where there is none.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgeferry.inference.description import Description, describe
from edgeferry.inference.quantization import DTYPES, datatype_of
from edgeferry.inference.runtime import new_interpreter
from edgeferry.wire.desired import TensorSpec

__all__ = ["InputError", "Model", "ModelError", "RunTimes", "specs_of"]

_DEFAULT_SIGNATURE = "serving_default"
_Details = dict[str, Any]  # one tensor, in the interpreter's words


class ModelError(Exception):
    """The model cannot be loaded or run; the message is a sentence that says why."""


class InputError(ModelError):
    """What was given is not what the model takes; the model itself is well."""


@dataclass(frozen=True, slots=True)
class RunTimes:
    """Where one run's time went, in seconds: inputs copied in, the interpreter, outputs copied out."""

    input_s: float = 0.0
    invoke_s: float = 0.0
    output_s: float = 0.0


class Model:
    """A loaded model. One thread at a time may use it; ``run`` lets other Python threads go on meanwhile.

    Attributes:
        inputs: What it takes, in the order of the file.
        outputs: What it gives.
        description: What the file says of the model beside that.
        interpreter: The runtime's own, for tools that look inside.
        last_run: Where the time of the last run went.
    """

    def __init__(
        self,
        interpreter: Any,
        inputs: Mapping[str, _Details],
        outputs: Mapping[str, _Details],
        description: Description,
    ) -> None:
        self.interpreter = interpreter
        self.description = description
        self.inputs = description.inputs
        self.outputs = description.outputs
        self.last_run = RunTimes()
        self._input_details = inputs
        self._output_details = outputs
        self._shapes = {name: tuple(int(n) for n in details["shape"]) for name, details in inputs.items()}
        self._allocated = True

    @classmethod
    def load(cls, path: Path, *, threads: int = 1, keeps_tensors: bool = False) -> Self:
        """Return the model in the file at ``path``, ready to run.

        The file is memory-mapped: it must not change as long as the model lives.

        Args:
            path: The file.
            threads: How many may compute.
            keeps_tensors: Whether every tensor can be looked at after a run, see `new_interpreter`.

        Raises:
            ModelError: The file cannot be read, is not a model, or needs operators or types that this runtime lacks.
        """
        try:
            path.open("rb").close()  # the runtime's own message does not say why
            interpreter = new_interpreter(str(path), threads=threads, keeps_tensors=keeps_tensors)
            interpreter.allocate_tensors()
        except (OSError, ValueError, RuntimeError) as err:
            raise ModelError(f"{path.name} cannot be loaded: {_sentence(err)}") from err
        inputs, outputs = _named_tensors(interpreter)
        return cls(interpreter, inputs, outputs, describe(path, specs_of(inputs), specs_of(outputs)))

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name, as copies in the model's own dtypes.

        Args:
            inputs: Every input by name, in the model's own dtypes; where a shape has -1, any size.

        Raises:
            InputError: A name, dtype or shape is not what the model takes.
            ModelError: The runtime failed.
        """
        self._check(inputs)
        try:
            began_s = time.monotonic()
            self._resize({name: array.shape for name, array in inputs.items()})
            for name, array in inputs.items():
                self.interpreter.set_tensor(self._input_details[name]["index"], array)
            invoked_s = time.monotonic()
            self.interpreter.invoke()
            answered_s = time.monotonic()
            outputs = {name: self.interpreter.get_tensor(d["index"]) for name, d in self._output_details.items()}
        except (ValueError, RuntimeError) as err:
            raise ModelError(f"the model failed to run: {_sentence(err)}") from err
        self.last_run = RunTimes(invoked_s - began_s, answered_s - invoked_s, time.monotonic() - answered_s)
        return outputs

    def reset(self) -> None:
        """Forget what a stateful model remembers of earlier runs."""
        self.interpreter.reset_all_variables()

    def _check(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        wanted = {spec.name for spec in self.inputs}
        if inputs.keys() != wanted:
            raise InputError(f"got inputs {_listed(inputs)}, wanted {_listed(wanted)}")
        for spec in self.inputs:
            check_tensor(inputs[spec.name], spec)

    def _resize(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        if self._allocated and shapes == self._shapes:
            return
        self._allocated = False  # until the runtime has agreed, what is allocated fits nothing
        for name, shape in shapes.items():
            self.interpreter.resize_tensor_input(self._input_details[name]["index"], shape)
        self.interpreter.allocate_tensors()
        self._shapes = dict(shapes)
        self._allocated = True


def specs_of(tensors: Mapping[str, _Details]) -> tuple[TensorSpec, ...]:
    """Return what the interpreter says of tensors, by the names that they go by.

    Raises:
        ModelError: One holds neither numbers nor booleans.
    """
    return tuple(_spec(name, details) for name, details in tensors.items())


def check_tensor(array: NDArray[Any], spec: TensorSpec) -> None:
    """Do nothing when ``array`` is what ``spec`` says.

    Raises:
        InputError: Its dtype or shape differs.
    """
    if array.dtype != DTYPES[spec.datatype]:
        found = datatype_of(array.dtype) or str(array.dtype)
        raise InputError(f"input {spec.name!r} is {found}, wanted {spec.datatype}")
    if not fits(array.shape, spec.shape):
        raise InputError(f"input {spec.name!r} has shape {list(array.shape)}, wanted {list(spec.shape)}")


def fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Return whether ``shape`` is ``wanted``, where -1 stands for any size of at least one."""
    if len(shape) != len(wanted):
        return False
    return all(size == want or (want == -1 and size > 0) for size, want in zip(shape, wanted, strict=True))


def _named_tensors(interpreter: Any) -> tuple[dict[str, _Details], dict[str, _Details]]:
    inputs = interpreter.get_input_details()
    outputs = interpreter.get_output_details()
    keys = sorted(interpreter.get_signature_list(), key=lambda key: key != _DEFAULT_SIGNATURE)
    for key in keys:
        runner = interpreter.get_signature_runner(key)
        named_inputs, named_outputs = runner.get_input_details(), runner.get_output_details()
        if _tensors(named_inputs.values()) == _tensors(inputs) and _tensors(named_outputs.values()) <= _tensors(
            outputs
        ):
            return named_inputs, named_outputs
    return {d["name"]: d for d in inputs}, {d["name"]: d for d in outputs}


def _tensors(details: Iterable[_Details]) -> set[tuple[int, str]]:
    # Indices repeat in every subgraph; together with the name they tell one tensor from another.
    return {(d["index"], d["name"]) for d in details}


def _spec(name: str, details: _Details) -> TensorSpec:
    datatype = datatype_of(np.dtype(details["dtype"]))
    if datatype is None:
        raise ModelError(f"tensor {name!r} holds {np.dtype(details['dtype'])}; only numbers and booleans can be served")
    quantization = details["quantization_parameters"]
    per_tensor = len(quantization["scales"]) == 1
    signature = details["shape_signature"]
    return TensorSpec(
        name=name,
        datatype=datatype,
        shape=tuple(int(n) for n in (signature if len(signature) else details["shape"])),
        scale=float(quantization["scales"][0]) if per_tensor else 0.0,
        zero_point=int(quantization["zero_points"][0]) if per_tensor else 0,
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "none"


def _sentence(err: Exception) -> str:
    return " ".join(str(err).split())[:500] or "the runtime gives no reason, as it does when memory is short"
