"""The token that a workstation prints and a device joins with.

``ef1.`` + base64url of the deflated JSON + ``.`` + its CRC-32 in hex, so that a token that lost its end is noticed.
"""

import base64
import zlib

from edgeferry.wire.codec import Message, WireError, decode, encode
from edgeferry.wire.topics import DEFAULT_ROOT, check_id, check_root

__all__ = ["JoinToken", "format_token", "parse_token"]

_PREFIX = "ef1"
_MAX_TOKEN_BYTES = 64 * 1024


class JoinToken(Message, frozen=True):
    """What a device needs to join a fleet. It is a secret: it holds the device's password.

    Attributes:
        id: The device's id, which is its MQTT user name and client id too.
        brokers: URLs to try in turn, ``mqtt://host:1883`` or ``mqtts://host:8883``.
        password: The device's password at the broker.
        root: Base64 of the fleet's current TUF root: the beginning of all trust.
        ca_pem: Certificate that signed the broker's; empty for the system's own, or without TLS.
    """

    v: int
    id: str
    profile: str
    brokers: tuple[str, ...]
    password: str
    root: str
    groups: tuple[str, ...] = ()
    ca_pem: str = ""
    topic_root: str = DEFAULT_ROOT


def format_token(token: JoinToken) -> str:
    """Return ``token`` as one line of text."""
    body = zlib.compress(encode(token), 9)
    return f"{_PREFIX}.{base64.urlsafe_b64encode(body).decode().rstrip('=')}.{zlib.crc32(body):08x}"


def parse_token(text: str) -> JoinToken:
    """Return the token that ``text`` spells; white space around and inside it does not matter.

    Raises:
        WireError: It is cut, altered, of another version, or names ids that cannot be.
    """
    parts = "".join(text.split()).split(".")
    if len(parts) != 3 or parts[0] != _PREFIX:
        found = f"{len(parts)} of 3 parts" if parts[0] == _PREFIX else f"a beginning of {text.strip()[:4]!r}"
        raise WireError(f"token: found {found}, wanted {_PREFIX}.BODY.CHECKSUM; copy the whole line")
    token = decode(JoinToken, _inflate(_body(parts[1], parts[2])), max_bytes=_MAX_TOKEN_BYTES)
    if token.v != 1:
        raise WireError(f"token: version {token.v}, wanted 1; update edgeferry on this device")
    check_id(token.id, what="token: device id")
    for group in token.groups:
        check_id(group, what="token: group")
    check_root(token.topic_root)
    return token


def _body(encoded: str, checksum: str) -> bytes:
    try:
        body = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except ValueError as err:
        raise WireError("token: has characters that do not belong there; copy the whole line") from err
    if f"{zlib.crc32(body):08x}" != checksum:
        raise WireError("token: its checksum differs, so a part of it is missing or altered; copy the whole line")
    return body


def _inflate(body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(body, _MAX_TOKEN_BYTES)
    except zlib.error as err:
        raise WireError("token: does not inflate; ask for a new one") from err
    if inflater.unconsumed_tail:
        raise WireError(f"token: more than {_MAX_TOKEN_BYTES} bytes")
    return data
