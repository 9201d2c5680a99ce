"""mosquitto's password files: who is let in.

Format of mosquitto_passwd(1): ``USER:$7$ROUNDS$SALT$HASH``, PBKDF2 with HMAC-SHA512, salt and hash in Base64.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Mapping

__all__ = ["password_file", "users_in"]

# A device's password is 192 random bits: more rounds protect nothing, and mosquitto computes them in its only thread
# while a fleet connects again after a power cut.
DEVICE_ROUNDS = 101  # mosquitto_passwd's own
PEOPLE_ROUNDS = 50_000  # a person may have chosen it
_SALT_BYTES = 12
_LINE = re.compile(r"([^:\n]+):\$7\$(\d{1,7})\$([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+)")


def password_file(passwords: Mapping[str, str], before: str = "", *, rounds: int = DEVICE_ROUNDS) -> str:
    """Return the file that lets in the users of ``passwords``.

    Args:
        passwords: By user name.
        before: The file that it takes the place of: a line that is right stays, so that nothing changes needlessly.
        rounds: Of PBKDF2, for lines that are new.
    """
    known = users_in(before)
    lines = [
        known[user] if user in known and _is_of(known[user], password) else _line(user, password, rounds)
        for user, password in sorted(passwords.items())
    ]
    return "".join(f"{line}\n" for line in lines)


def users_in(text: str) -> dict[str, str]:
    """Return the lines of a password file by user name."""
    return {line.partition(":")[0]: line for line in text.splitlines() if ":" in line}


def _line(user: str, password: str, rounds: int) -> str:
    salt = os.urandom(_SALT_BYTES)
    return f"{user}:$7${rounds}${_base64(salt)}${_base64(_digest(password, salt, rounds))}"


def _is_of(line: str, password: str) -> bool:
    found = _LINE.fullmatch(line)
    if not found:
        return False
    try:
        salt, digest = (base64.b64decode(text, validate=True) for text in found.groups()[2:])
    except binascii.Error:
        return False
    return hmac.compare_digest(digest, _digest(password, salt, int(found[2])))


def _digest(password: str, salt: bytes, rounds: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
