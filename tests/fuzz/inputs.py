"""Input number n of a target: a right input with a few things wrong, now and then anything at all.

A number makes the same bytes everywhere, so that a finding is a number. Random mutations find what parsers forget about
single fields; the tokens are what JSON, numbers and lengths are usually got wrong with.
"""

import re
from collections.abc import Sequence
from random import Random

__all__ = ["input_of"]

_TOKENS = (
    *(b"null", b"true", b"-1", b"0", b"1e999", b"-0.0", b"NaN", b'""', b"[]", b"{}", b"[[[[", b'{"a":', b'"\\ud800"'),
    *(b"18446744073709551616", b"9223372036854775808", b"4294967296", b"2147483648", b"65536", b"0x10", b"1_0"),
    *(
        b"\0",
        b"\xff",
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\x80",
        b"\xef\xbb\xbf",
        b"\r\n",
        b"..",
        b"/",
        b"#",
        b"+",
        b"%s",
    ),
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")


def input_of(target: str, seeds: Sequence[bytes], number: int) -> bytes:
    """Return input ``number`` of ``target``; the first ones are the right inputs themselves."""
    if number < len(seeds):
        return seeds[number]
    random = Random(f"{target}:{number}")
    if random.random() < 0.03:
        return random.randbytes(random.randrange(400))
    data = bytearray(random.choice(seeds))
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        random.choice(_EDITS)(data, random, seeds)
    return bytes(data)


def _flip(data: bytearray, random: Random, _seeds: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _overwrite(data: bytearray, random: Random, _seeds: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] = random.choice((0, 1, 127, 128, 255, random.randrange(256)))


def _cut(data: bytearray, random: Random, _seeds: Sequence[bytes]) -> None:
    del data[random.randrange(len(data) + 1) :]


def _remove(data: bytearray, random: Random, _seeds: Sequence[bytes]) -> None:
    at = random.randrange(len(data) + 1)
    del data[at : at + random.choice((1, 2, 4, 8, 64))]


def _insert(data: bytearray, random: Random, _seeds: Sequence[bytes]) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.choice(_TOKENS) * random.choice((1, 1, 1, 2, 200))


def _repeat(data: bytearray, random: Random, _seeds: Sequence[bytes]) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = data[at : at + random.choice((1, 4, 32, 256))] * random.choice((1, 2, 16))


def _renumber(data: bytearray, random: Random, _seeds: Sequence[bytes]) -> None:
    numbers = list(_NUMBER.finditer(data))
    if numbers:
        found = random.choice(numbers)
        data[found.start() : found.end()] = random.choice(_TOKENS)


def _splice(data: bytearray, random: Random, seeds: Sequence[bytes]) -> None:
    other = random.choice(seeds)
    data[random.randrange(len(data) + 1) :] = other[random.randrange(len(other) + 1) :]


_EDITS = (_flip, _overwrite, _cut, _remove, _insert, _repeat, _renumber, _splice)
