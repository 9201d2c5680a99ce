"""The page at ``/``: for people, without a build step; test_status_page_in_a_browser.py looks at it with Chromium."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.models import linear_model
from tests.serving.conftest import Server, count_down

X = [{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": [0.5] * 64}]
HOSTILE = '<b>"&'


class Text(HTMLParser):
    """The words of each cell, and the tags that stand in the page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append(data.strip())


def page(server: Server) -> tuple[str, Text]:
    answer = server.request("GET", "/")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    text = Text()
    text.feed(answer.body.decode())
    return answer.body.decode(), text


def test_it_shows_versions_labels_and_how_they_do(server: Server) -> None:
    server.load("digits", 1)
    server.load("digits", 2, label="canary")
    for _ in range(3):
        server.infer(inputs=X)

    source, text = page(server)

    assert {"digits", "1", "2", "stable", "canary", "3"} <= set(text.words)
    assert "x INT8[1x64]" in text.words
    assert source.count("<polyline") == 1  # version 2 was asked for nothing


def test_without_models_and_errors_it_says_so(server: Server) -> None:
    _, text = page(server)

    assert {"no model is loaded", "none since the process began"} <= set(text.words)


def test_the_last_errors_are_shown_without_what_a_client_has_sent(server: Server) -> None:
    server.load()
    server.load_slow()
    server.infer(inputs=[{**X[0], "datatype": "<script>alert(1)</script>"}])
    server.infer("slow", inputs=count_down(2e6), headers={"X-Request-Timeout-Ms": "20"})

    source, text = page(server)

    assert {"INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "the request was not what the model takes"} <= set(text.words)
    assert "alert(1)" not in source
    assert any("gave no answer" in words for words in text.words)


def test_names_are_escaped_wherever_they_stand(serve: Callable[..., Server], tmp_path: Path) -> None:
    folder = tmp_path / "models" / HOSTILE / "1"
    folder.mkdir(parents=True)
    linear_model(folder / "model.tflite")
    server = serve(models=tmp_path / "models")
    server.request("POST", f"/v2/models/{quote(HOSTILE)}/infer", "{}")

    source, text = page(server)

    assert text.words.count(HOSTILE) == 2  # the model and its error
    assert HOSTILE not in source
    (choices,) = re.findall(r'data-models="(.*?)"', source)
    assert json.loads(html.unescape(choices))[0]["path"] == f"/v2/models/{quote(HOSTILE)}/versions/1/infer"


def test_the_policy_allows_what_is_in_it_by_hash_and_nothing_else(server: Server) -> None:
    answer = server.request("GET", "/")
    policy = answer.headers["content-security-policy"]
    source = answer.body.decode()

    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", source, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"\son[a-z]+=|\sstyle=|https?://(?!www.w3)", source)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_it_is_only_read(server: Server, method: str) -> None:
    assert server.request(method, "/").status == 404
