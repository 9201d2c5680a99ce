"""Whatever is asked for, with whatever method: an answer, and never one that blames the server."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.serving.conftest import Server

WORDS = """
    v1 V1 v2 models digits digits:predict digits:regress versions labels 1 stable 9 metadata infer ready stats config
    repository index load unload health live metrics monitoring prometheus edgeferry %00 %ff%fe %2f .. : a%3Apredict
"""
LEVELS = st.sampled_from(WORDS.split())
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Inference-Header-Content-Length", "X-Request-Timeout-Ms", "Content-Encoding", "Expect", "Authorization"]
    ),
    st.sampled_from(["0", "1", "5", "-1", "99999999999999999999", "gzip", "100-continue", "", "x"]),
    max_size=2,
)


@pytest.fixture(scope="module")
def loaded(serve_module: Callable[..., Server]) -> Server:
    server = serve_module()
    server.load(features=2)
    return server


@settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]),
    st.lists(LEVELS, max_size=7),
    HEADERS,
    st.sampled_from([b"", b"{}", b"[]", b"ab", b'{"inputs":[]}', b'{"instances":[[1,2]]}', b"\x1f\x8b"]),
)
@example("POST", ["v1", "models", "digits:predict"], {}, b'{"instances":[[1,2]]}')
@example("POST", ["v2", "models", "digits", "infer"], {"Inference-Header-Content-Length": "0"}, b"ab")
def test_no_request_is_the_servers_fault(
    loaded: Server, method: str, levels: list[str], headers: dict[str, str], body: bytes
) -> None:
    answer = loaded.request(method, "/" + "/".join(levels), body, **headers)

    assert answer.status < 500 or answer.status in {501, 504}
    assert answer.status != 200 or method in {"GET", "POST"}
