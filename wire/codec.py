"""How messages become bytes and back: JSON with a size cap, missing fields refused, unknown ones ignored.

Decides the one limit and the one error of every parser in this package.
"""

from typing import TypeVar

import msgspec

__all__ = ["MAX_MESSAGE_BYTES", "Message", "WireError", "canonical", "decode", "encode"]

MAX_MESSAGE_BYTES = 128 * 1024  # AWS IoT's limit, the smallest of the common brokers

T = TypeVar("T")


class WireError(ValueError):
    """Bytes from the network do not say what they have to say."""


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """Base of everything that is said in JSON: immutable, optional fields left out when they have nothing to say."""


def encode(message: msgspec.Struct) -> bytes:
    """Return ``message`` as compact JSON, fields in the order of their declaration."""
    return msgspec.json.encode(message)


def canonical(value: object) -> bytes:
    """Return ``value`` as JSON with sorted keys, so that equal values have equal bytes and therefore equal hashes."""
    return msgspec.json.encode(value, order="sorted")


def decode(kind: type[T], data: bytes, *, max_bytes: int = MAX_MESSAGE_BYTES) -> T:
    """Return the ``kind`` that ``data`` spells.

    Raises:
        WireError: ``data`` is larger than ``max_bytes``, is not JSON, lacks a field or has one of a wrong type.
    """
    if len(data) > max_bytes:
        raise WireError(f"{kind.__name__}: {len(data)} bytes, wanted at most {max_bytes}")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise WireError(f"{kind.__name__}: {err}") from err
