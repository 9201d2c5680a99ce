import gzip
import json
import zlib

import pytest
from tests.serving.conftest import Server

from edgeferry.agent.serving.http_message import HttpError
from edgeferry.agent.serving.inflating import inflate

PREDICT = "/v1/models/digits:predict"
BODY = json.dumps({"instances": [[1, 2]]}).encode()


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body_is_the_same_request(server: Server, encoding: str, pack: object) -> None:
    server.load(quantized=False, features=2)

    packed = server.request("POST", PREDICT, pack(BODY), Content_Encoding=encoding)  # type: ignore[operator]

    assert packed.status == 200
    assert packed.json() == server.request("POST", PREDICT, BODY).json()


@pytest.mark.parametrize(
    ("body", "encoding", "status", "message"),
    [
        (gzip.compress(b"0" * 100_000), "gzip", 413, "allowed are 50000"),
        (b"no gzip", "gzip", 400, "the body is not gzip"),
        (gzip.compress(BODY)[:-4], "gzip", 400, "the body is not one whole gzip stream"),
        (gzip.compress(BODY) + b"more", "gzip", 400, "the body is not one whole gzip stream"),
        (b"", "gzip", 400, "the body is not one whole gzip stream"),
        (BODY, "br", 415, "Content-Encoding 'br' is not taken"),
    ],
    ids=["too large", "no gzip", "cut off", "more behind it", "empty", "another encoding"],
)
def test_what_cannot_be_unpacked_is_refused(serve, body: bytes, encoding: str, status: int, message: str) -> None:
    server = serve(body_limit_bytes=50_000)

    answer = server.request("POST", PREDICT, body, Content_Encoding=encoding)

    assert answer.status == status
    assert message in answer.json()["error"]


def test_what_was_reserved_for_unpacked_bodies_is_given_back(serve) -> None:
    server = serve(body_limit_bytes=50_000)

    for _ in range(5):
        assert server.request("POST", PREDICT, gzip.compress(b"0" * 200_000), Content_Encoding="gzip").status == 413
        assert server.request("POST", PREDICT, gzip.compress(b"0" * 49_000), Content_Encoding="gzip").status == 404


def test_a_large_body_comes_in_pieces() -> None:
    pieces = list(inflate(gzip.compress(b"0" * 3_000_000), "gzip"))

    assert max(map(len, pieces)) <= 1 << 20
    assert b"".join(pieces) == b"0" * 3_000_000
    with pytest.raises(HttpError):
        list(inflate(b"", "compress"))
