"""Predict in TensorFlow Serving's JSON: by row (``instances``) and by column (``inputs``), there and back.

Plain nested lists of numbers take a fast way; everything else a slower one, which has TensorFlow Serving's words for
what is wrong. Source: tensorflow/serving, util/json_tensor.cc.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType
from numpy.typing import NDArray

from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.nested_json import tensor_from_nested_json
from edgeferry.agent.serving.signatures import Signature
from edgeferry.agent.serving.tfs_json import is_base64, parse_object, quoted, tensor_from_value
from edgeferry.wire.desired import TensorSpec

__all__ = ["PredictCall", "decode_predict", "encode_predict", "nested_json", "signature_name"]

_INSTANCES, _INPUTS = "instances", "inputs"
_ChooseSignature = Callable[[str], Signature]


class _Body(msgspec.Struct):
    instances: Raw | UnsetType = UNSET
    inputs: Raw | UnsetType = UNSET
    signature_name: str = ""


@dataclass(frozen=True, slots=True)
class PredictCall:
    """A request, in the datatypes of its signature.

    Attributes:
        tensors: Every input by name.
        by_row: Whether the answer is a list of rows.
    """

    signature: Signature
    tensors: Mapping[str, NDArray[Any]]
    by_row: bool


def decode_predict(body: bytes | bytearray, choose: _ChooseSignature) -> PredictCall:
    """Return what ``body`` asks for.

    Args:
        body: Of the request.
        choose: Gives the signature of a name, or raises RequestError.

    Raises:
        RequestError: It is malformed, or not what the signature takes.
    """
    return _decode_plain(body, choose) or _decode_any(parse_object(body), choose)


def _decode_plain(body: bytes | bytearray, choose: _ChooseSignature) -> PredictCall | None:
    try:
        request = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    by_row = not isinstance(request.instances, UnsetType)
    raw = request.instances if by_row else request.inputs
    if isinstance(raw, UnsetType) or by_row is not isinstance(request.inputs, UnsetType):
        return None
    signature = choose(request.signature_name)
    tensors = _plain_tensors(bytes(raw), signature.inputs, by_row=by_row)
    return None if tensors is None else PredictCall(signature, tensors, by_row)


def _plain_tensors(text: bytes, specs: Sequence[TensorSpec], *, by_row: bool) -> dict[str, NDArray[Any]] | None:
    if not text.startswith(b"{"):
        tensor = tensor_from_nested_json(text, specs[0].datatype) if len(specs) == 1 else None
        return None if tensor is None or (by_row and not tensor.ndim) else {specs[0].name: tensor}
    try:
        parts = msgspec.json.decode(text, type=dict[str, Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if by_row or any(spec.name not in parts for spec in specs):
        return None
    tensors = {spec.name: tensor_from_nested_json(bytes(parts[spec.name]), spec.datatype) for spec in specs}
    found = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    return found if len(found) == len(specs) else None


def _decode_any(document: dict[str, Any], choose: _ChooseSignature) -> PredictCall:
    signature = choose(signature_name(document))
    if _INSTANCES in document and _INPUTS in document:
        detail = f"Not formatted correctly expecting only one of '{_INPUTS}' or '{_INSTANCES}' keys to exist"
        raise RequestError.bad(detail)
    if _INSTANCES in document:
        return PredictCall(signature, _by_row(document[_INSTANCES], signature.inputs), by_row=True)
    if _INPUTS in document:
        return PredictCall(signature, _by_column(document[_INPUTS], signature.inputs), by_row=False)
    raise RequestError.bad(f"Missing '{_INPUTS}' or '{_INSTANCES}' key")


def signature_name(document: Mapping[str, Any]) -> str:
    """Return the name of the signature that a request wants; empty for the default one.

    Raises:
        RequestError: It is not text.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        detail = f"JSON Value: {quoted(document)} not formatted correctly. 'signature_name' key must be a string value."
        raise RequestError.bad(detail)
    return name


def _by_column(value: Any, specs: Sequence[TensorSpec]) -> dict[str, NDArray[Any]]:
    if not isinstance(value, dict) or is_base64(value):
        if len(specs) > 1:
            raise RequestError.bad(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        return {specs[0].name: tensor_from_value(value, specs[0], specs[0].shape)}
    for spec in specs:
        if spec.name not in value:
            raise RequestError.bad(f"Missing named input: {spec.name} in 'inputs' object.")
    return {spec.name: tensor_from_value(value[spec.name], spec, spec.shape) for spec in specs}


def _by_row(rows: Any, specs: Sequence[TensorSpec]) -> dict[str, NDArray[Any]]:
    if not isinstance(rows, list):
        raise RequestError.bad(f"JSON Value: {quoted(rows)} Excepting '{_INSTANCES}' to be an list/array")
    if not rows:
        raise RequestError.bad(f"No values in '{_INSTANCES}' array")
    are_objects = _is_named(rows[0])
    if len(specs) > 1 and not are_objects:
        raise RequestError.bad(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    collected: dict[str, list[NDArray[Any]]] = {}
    for number, row in enumerate(rows):
        if _is_named(row) is not are_objects:
            expected = "object but got list" if are_objects else "value/list but got object"
            raise RequestError.bad(f"Expecting {expected} at item {number} of input list")
        _add_row(number, row if are_objects else {specs[0].name: row}, specs, collected, is_named=are_objects)
    return {name: np.stack(arrays) for name, arrays in collected.items()}


def _is_named(row: Any) -> bool:
    return isinstance(row, dict) and not is_base64(row)


def _add_row(
    number: int,
    row: Mapping[str, Any],
    specs: Sequence[TensorSpec],
    collected: dict[str, list[NDArray[Any]]],
    *,
    is_named: bool,
) -> None:
    by_name = {spec.name: spec for spec in specs}
    for name, value in row.items():
        try:
            _add_item(name, value, by_name, collected)
        except RequestError as err:
            key = f" key: {name[:256]}" if is_named else ""
            detail = f"Failed to process element: {number}{key} of '{_INSTANCES}' list. Error: INVALID_ARGUMENT: {err}"
            raise RequestError.bad(detail) from err
    if row.keys() != by_name.keys():
        raise RequestError.bad(
            f"Failed to process element: {number} of '{_INSTANCES}' list. JSON object: {quoted(dict(row))} "
            f"keys must be equal to: {','.join(sorted(by_name))}"
        )


def _add_item(name: str, value: Any, specs: Mapping[str, TensorSpec], collected: dict[str, list[NDArray[Any]]]) -> None:
    if name not in specs:
        raise RequestError.bad(f"JSON object: does not have named input: {name[:256]}")
    array = tensor_from_value(value, specs[name], specs[name].shape[1:])
    earlier = collected.setdefault(name, [array])[0]
    if earlier is array:
        return
    if earlier.size != array.size:
        raise RequestError.bad(f"Expecting tensor size: {earlier.size} but got: {array.size}")
    if earlier.shape != array.shape:
        raise RequestError.bad(f"Expecting shape {_spelled(earlier.shape)} but got: {_spelled(array.shape)}")
    collected[name].append(array)


def _spelled(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def encode_predict(outputs: Mapping[str, NDArray[Any]], *, by_row: bool) -> bytes:
    """Return the answer: ``predictions``, a list of rows, or ``outputs``, the tensors by name.

    With one output its name is left out.

    Raises:
        RequestError: By row, the outputs do not have equally many rows.
    """
    if not by_row:
        columns = b",".join(msgspec.json.encode(name) + b":" + nested_json(a) for name, a in outputs.items())
        value = b"{" + columns + b"}" if len(outputs) > 1 else nested_json(next(iter(outputs.values())))
        return b'{"outputs":' + value + b"}"
    _check_rows(outputs)
    if len(outputs) == 1:
        return b'{"predictions":' + nested_json(next(iter(outputs.values()))) + b"}"
    count = len(next(iter(outputs.values())))
    rows = (
        b",".join(msgspec.json.encode(name) + b":" + nested_json(array[row]) for name, array in outputs.items())
        for row in range(count)
    )
    return b'{"predictions":[' + b",".join(b"{" + row + b"}" for row in rows) + b"]}"


def _check_rows(outputs: Mapping[str, NDArray[Any]]) -> None:
    rows: int | None = None
    for name, array in outputs.items():
        if not array.ndim:
            raise RequestError.bad(f"Tensor name: {name} has no shape information")
        if rows is not None and len(array) != rows:
            detail = f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {rows}"
            raise RequestError.bad(detail)
        rows = len(array)


def nested_json(array: NDArray[Any]) -> bytes:
    """Return a tensor as nested lists; whole floats keep ``.0``, and NaN and the infinities are written."""
    values = array.tolist()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return json.dumps(values).encode()
    return msgspec.json.encode(values)
