"""The page at ``/`` in a real, headless Chromium: its form asks a model, its policy blocks nothing of its own."""

import re
from pathlib import Path

import pytest
from tests.models import convolutional_model
from tests.serving.browser import browser
from tests.serving.conftest import Server

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(400)]  # it may install Chromium first

ANSWER = "document.getElementById('answer').textContent"
SUBMIT = "document.getElementById('try').requestSubmit()"
WATCH = "addEventListener('securitypolicyviolation', (event) => { document.title = 'blocked ' + event.blockedURI; })"
GIVE_A_PICTURE = """
(async () => {
  const canvas = new OffscreenCanvas(30, 20);
  canvas.getContext("2d").fillRect(0, 0, 30, 20);
  const files = new DataTransfer();
  files.items.add(new File([await canvas.convertToBlob()], "black.png", { type: "image/png" }));
  document.getElementById("image").files = files.files;
})()
"""


@pytest.fixture
def asked(server: Server) -> Server:
    server.load("digits", 1, features=4, classes=3)
    server.load("digits", 2, label="canary", features=4, classes=3)
    for number in range(30):
        server.infer(inputs=[{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [number / 30] * 4}])
    server.infer(inputs=[])
    return server


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_it_fits_the_screen(asked: Server, tmp_path: Path, scheme: str, width: int) -> None:
    with browser(tmp_path) as page:
        page.open(f"http://{asked.serving.http}/")
        page.take_picture(tmp_path / "page.png", width=width, scheme=scheme)

        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is (scheme == "dark")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


def test_its_form_asks_the_model_and_shows_the_answer(asked: Server, tmp_path: Path) -> None:
    with browser(tmp_path) as page:
        page.open(f"http://{asked.serving.http}/")
        page.evaluate(WATCH)
        page.evaluate("document.getElementById('numbers').value = '0.5, 0.25'")
        page.evaluate(SUBMIT)
        answer = page.wait_for(ANSWER, "invoke;dur=")
        page.evaluate("document.getElementById('numbers').value = 'many'")
        page.evaluate(SUBMIT)

        assert page.wait_for(ANSWER, "these are no numbers")
        assert re.match(r"scores \[1 x 3\]\n  \d: -?\d", answer)
        assert "blocked" not in page.evaluate("document.title")


def test_a_picture_becomes_what_the_model_takes(server: Server, tmp_path: Path) -> None:
    server.load("pixels", model=convolutional_model)
    with browser(tmp_path) as page:
        page.open(f"http://{server.serving.http}/")
        page.evaluate(WATCH)
        page.evaluate(GIVE_A_PICTURE)
        page.evaluate(SUBMIT)

        assert page.wait_for(ANSWER, "invoke;dur=")
        assert "blocked" not in page.evaluate("document.title")
