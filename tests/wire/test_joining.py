"""The token a device joins with: whole or refused."""

import base64
import contextlib
import zlib
from typing import cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeferry.wire.codec import Message, WireError, encode
from edgeferry.wire.joining import JoinToken, format_token, parse_token

from .examples import MESSAGES

TOKEN = cast("JoinToken", MESSAGES["join_token"])
TEXT = format_token(TOKEN)


def spelled(body: bytes) -> str:
    """Return a token around ``body`` with a checksum that is right."""
    return f"ef1.{base64.urlsafe_b64encode(body).decode().rstrip('=')}.{zlib.crc32(body):08x}"


def test_a_token_is_one_line_that_any_terminal_can_carry() -> None:
    assert TEXT.isascii()
    assert len(TEXT.split()) == 1


@pytest.mark.parametrize("length", range(len(TEXT)))
def test_a_token_that_was_cut_anywhere_is_refused(length: int) -> None:
    with pytest.raises(WireError, match=r"^token: "):
        parse_token(TEXT[:length])


@settings(max_examples=500, deadline=None)
@given(at=st.integers(0, len(TEXT) - 1), character=st.characters())
def test_a_token_with_an_altered_character_is_never_another_token(at: int, character: str) -> None:
    with contextlib.suppress(WireError):
        assert parse_token(TEXT[:at] + character + TEXT[at + 1 :]) == TOKEN


@given(at=st.integers(0, len(TEXT)), space=st.sampled_from([" ", "\n", "\r\n", "\t", "  "]))
def test_white_space_does_no_harm(at: int, space: str) -> None:
    assert parse_token(f" {TEXT[:at]}{space}{TEXT[at:]}\n") == TOKEN


def test_what_is_no_token_is_told_how_one_begins() -> None:
    with pytest.raises(WireError, match=r"a beginning of 'pass', wanted ef1\.BODY\.CHECKSUM; copy the whole line"):
        parse_token("password123")


def test_characters_that_do_not_belong_there_are_told() -> None:
    with pytest.raises(WireError, match="characters that do not belong there"):
        parse_token("ef1.a*b.00000000")


def test_a_checksum_that_differs_is_told() -> None:
    with pytest.raises(WireError, match="a part of it is missing or altered"):
        parse_token(TEXT[:-1] + ("0" if TEXT[-1] != "0" else "1"))


def test_a_body_that_is_not_deflated_is_refused() -> None:
    with pytest.raises(WireError, match="does not inflate"):
        parse_token(spelled(b"not deflated"))


def test_a_body_that_inflates_without_end_is_refused() -> None:
    with pytest.raises(WireError, match="more than 65536 bytes"):
        parse_token(spelled(zlib.compress(b" " * 50_000_000)))


def test_a_body_that_ends_early_is_refused() -> None:
    with pytest.raises(WireError, match="JoinToken"):
        parse_token(spelled(zlib.compress(encode(TOKEN))[:-20]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"v": 2}, "token: version 2, wanted 1; update edgeferry on this device"),
        ({"id": "a/b"}, "token: device id 'a/b'"),
        ({"groups": ("a b",)}, "token: group 'a b'"),
        ({"topic_root": "#"}, "topic root '#'"),
    ],
)
def test_a_token_that_cannot_be_used_is_refused(change: dict[str, object], said: str) -> None:
    token: Message = msgspec.structs.replace(TOKEN, **change)

    with pytest.raises(WireError, match=said):
        parse_token(spelled(zlib.compress(encode(token))))


def test_a_token_with_its_certificate_and_root_stays_short_enough_to_paste() -> None:
    certificate = base64.b64encode(bytes(range(256)) * 4).decode()

    assert len(format_token(msgspec.structs.replace(TOKEN, ca_pem=certificate, root=certificate))) < 4096
