"""mosquitto's password file as mosquitto_passwd(1) writes it."""

import base64
import hashlib

from edgeferry.fleet.mosquitto.users import password_file, users_in

# hashlib.pbkdf2_hmac("sha512", b"secret", b"saltsaltsalt", 101), so that the format is held and not only the round trip
KNOWN = (
    "pi-1:$7$101$c2FsdHNhbHRzYWx0$"
    + base64.b64encode(hashlib.pbkdf2_hmac("sha512", b"secret", b"saltsaltsalt", 101)).decode()
)


def test_a_line_that_is_right_stays() -> None:
    assert password_file({"pi-1": "secret"}, KNOWN + "\n") == KNOWN + "\n"


def test_a_line_of_another_password_is_made_anew() -> None:
    text = password_file({"pi-1": "other"}, KNOWN + "\n")

    assert text.startswith("pi-1:$7$101$")
    assert text != KNOWN + "\n"
    assert password_file({"pi-1": "other"}, text) == text


def test_who_is_not_named_any_more_is_gone_and_the_others_are_sorted() -> None:
    text = password_file({"b": "x", "a": "y"}, KNOWN + "\n")

    assert list(users_in(text)) == ["a", "b"]


def test_the_same_password_never_looks_the_same_twice() -> None:
    one, two = (password_file({"pi-1": "secret"}) for _ in range(2))

    assert one != two


def test_a_damaged_line_is_made_anew() -> None:
    for line in ("pi-1:plain", "pi-1:$7$101$!!!$!!!", "pi-1:$7$101$A$A", ""):
        assert password_file({"pi-1": "secret"}, line).startswith("pi-1:$7$101$")
