"""The client against a real serving process, over each of its protocols; an answer is the same over all of them."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeferry.agent.serving.command import ServingOptions
from edgeferry.agent.serving.process import start_serving
from edgeferry.client import Client, InferenceError, predict
from edgeferry.inference.model import Model
from edgeferry.inference.quantization import dequantize, quantize
from edgeferry.wire.messages import Code
from tests.brokers import free_port
from tests.client.conftest import Behind
from tests.models import artifact_folder, two_way_model
from tests.serving.conftest import Server

X = np.random.default_rng(3).random((1, 64), dtype=np.float32)


def on_host(server: Server, x: np.ndarray, version: int = 1) -> np.ndarray:
    """Return what LiteRT itself answers."""
    folder = server._artifacts / "digits" / str(version) / "generic-x86-64"
    model = Model.load(folder / "model.tflite")
    (spec,), (scores,) = model.inputs, model.outputs
    return dequantize(model.run({spec.name: quantize(x, spec)})[scores.name], scores)


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Server]) -> Server:
    server = serve_module(grpc="127.0.0.1:0")
    server.load("digits", 1)
    server.load("digits", 2, label="canary")
    server.load("pair", model=two_way_model)
    server.load_slow()
    return server


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Client]:
    address = server.serving.http if request.param == "http" else server.serving.grpc
    with Client(f"{request.param}://{address}") as client:
        yield client


class TestEverywhere:
    def test_an_array_is_answered_by_an_array(self, client: Client, server: Server) -> None:
        np.testing.assert_array_equal(client.predict("digits", X), on_host(server, X))

    def test_arrays_by_name_are_answered_by_name(self, client: Client, server: Server) -> None:
        answers = client.predict("digits", {"x": X})

        assert list(answers) == ["scores"]
        np.testing.assert_array_equal(answers["scores"], on_host(server, X))

    def test_the_models_own_integers_are_answered_with_its_own(self, client: Client) -> None:
        assert client.predict("digits", np.ones((1, 64), np.int8)).dtype == np.int8

    def test_lists_and_double_precision_are_real_numbers(self, client: Client, server: Server) -> None:
        np.testing.assert_array_equal(client.predict("digits", X.tolist()), on_host(server, X))

    def test_an_answer_may_be_written_to(self, client: Client) -> None:
        client.predict("digits", X)[0, 0] = 7

    def test_a_version_a_label_and_nothing_choose(self, client: Client, server: Server) -> None:
        versions = [client.infer("digits", {"x": X}, version=each).version for each in ("", 1, "canary", "2")]

        assert versions == ["1", "1", "2", "2"]
        np.testing.assert_array_equal(client.predict("digits", X, version="canary"), on_host(server, X, 2))

    def test_a_model_with_several_inputs_wants_them_by_name(self, client: Client) -> None:
        with pytest.raises(InferenceError, match="input '' is given twice or unknown; wanted"):
            client.predict("pair", X)

    @pytest.mark.parametrize(
        ("model", "inputs", "code", "words"),
        [
            ("nobody", {"x": X}, Code.NOT_FOUND, "'nobody' is not loaded"),
            ("digits", {"y": X}, Code.INVALID_ARGUMENT, "input 'y' is given twice or unknown; wanted 'x'"),
            ("digits", {"x": X[:, 1:]}, Code.INVALID_ARGUMENT, "has shape [1, 63], wanted [1, 64]"),
            ("digits", {"x": X.astype(np.int64)}, Code.INVALID_ARGUMENT, "is INT64, wanted INT8"),
            ("digits", {"x": np.array([["a"]])}, Code.INVALID_ARGUMENT, "holds <U1, wanted numbers or truths"),
        ],
    )
    def test_what_is_wrong_is_told_alike(
        self, client: Client, model: str, inputs: dict[str, np.ndarray], code: Code, words: str
    ) -> None:
        with pytest.raises(InferenceError) as caught:
            client.infer(model, inputs)

        assert caught.value.code is code
        assert words in caught.value.detail
        assert not caught.value.is_retryable

    def test_a_deadline_is_kept(self, client: Client) -> None:
        with pytest.raises(InferenceError) as caught:
            client.predict("slow", np.array([2e6], np.float32), timeout_s=0.05)

        assert caught.value.code is Code.DEADLINE_EXCEEDED
        with pytest.raises(InferenceError, match="wanted more than 0"):
            client.predict("digits", X, timeout_s=0)


class TestAddresses:
    @pytest.mark.parametrize("url", ["127.0.0.1:8501", "ftp://host", "http://", ""])
    def test_an_address_that_is_none_is_told(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"is no address|is not known"):
            Client(url)

    @pytest.mark.parametrize("scheme", ["http", "grpc"])
    def test_where_nobody_listens_a_later_try_may_help(self, scheme: str) -> None:
        with pytest.raises(InferenceError) as caught:
            predict(f"{scheme}://127.0.0.1:{free_port()}", "digits", X, timeout_s=5)

        assert caught.value.code is Code.UNAVAILABLE
        assert caught.value.is_retryable

    def test_one_function_is_enough_for_one_question(self, server: Server) -> None:
        answer = predict(f"http://{server.serving.http}", "digits", X, version="canary", timeout_s=5)

        np.testing.assert_array_equal(answer, on_host(server, X, 2))


class TestRest:
    def test_a_connection_that_the_server_has_ended_is_made_again(
        self, serve: Callable[..., Server], tmp_path: Path
    ) -> None:
        port = free_port()
        artifact_folder(tmp_path / "alone", version=1)
        alone = ServingOptions(http=f"127.0.0.1:{port}", models=tmp_path / "alone")
        first = start_serving(alone)
        with Client(f"http://127.0.0.1:{port}") as client:
            before = client.predict("digits", X)
            first.stop()
            serve(http=f"127.0.0.1:{port}", models=tmp_path / "alone")

            np.testing.assert_array_equal(client.predict("digits", X), before)

    def test_whoever_answers_with_something_else_is_told(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            answering = threading.Thread(target=answer_with_nonsense, args=(listener,))
            answering.start()
            port = listener.getsockname()[1]

            with pytest.raises(InferenceError, match="the answer cannot be read"):
                predict(f"http://127.0.0.1:{port}", "digits", X, timeout_s=5)

            answering.join(10)

    @pytest.mark.parametrize("scheme", ["https", "grpcs"])
    def test_encrypted_with_a_token_it_is_let_in(
        self, serve: Callable[..., Server], identity: dict[str, Path], scheme: str
    ) -> None:
        server = serve(grpc="127.0.0.1:0", **identity)
        server.load()
        address = server.serving.http if scheme == "https" else server.serving.grpc
        url, ca_file = f"{scheme}://localhost:{address.rpartition(':')[2]}", identity["tls_certificate"]

        answer = predict(url, "digits", X, token=identity["token_file"].read_text().strip(), ca_file=ca_file)
        with pytest.raises(InferenceError) as caught:
            predict(url, "digits", X, ca_file=ca_file)

        np.testing.assert_array_equal(answer, on_host(server, X))
        assert caught.value.code is Code.UNAUTHENTICATED


def answer_with_nonsense(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


@pytest.mark.broker
class TestMqtt:
    def test_a_device_behind_a_broker_answers_as_over_rest(self, behind: Behind) -> None:
        behind.server.load("digits", 1)
        behind.server.load("digits", 2, label="canary")

        with Client(behind.url, user="app", password=behind.password) as client:
            answers = [client.predict("digits", X) for _ in range(3)]
            canary = client.infer("digits", {"x": X}, version="canary")

        for answer in answers:
            np.testing.assert_array_equal(answer, on_host(behind.server, X))
        assert canary.version == "2"

    def test_what_is_wrong_is_told_as_over_rest(self, behind: Behind) -> None:
        with (
            Client(behind.url, user="app", password=behind.password) as client,
            pytest.raises(InferenceError, match="'nobody' is not loaded") as caught,
        ):
            client.predict("nobody", X)

        assert caught.value.code is Code.NOT_FOUND

    def test_a_device_that_is_not_there_ends_at_the_deadline(self, behind: Behind) -> None:
        url = f"{behind.broker.url}/elsewhere"

        with pytest.raises(InferenceError, match=r"elsewhere gave no answer within 0\.5 s") as caught:
            predict(url, "digits", X, user="app", password=behind.password, timeout_s=0.5)

        assert caught.value.code is Code.DEADLINE_EXCEEDED

    def test_a_wrong_password_is_told(self, behind: Behind) -> None:
        with pytest.raises(InferenceError, match="did not let 'app' in"):
            predict(behind.url, "digits", X, user="app", password="wrong", timeout_s=3)


def test_nothing_of_tensorflow_or_of_a_runtime_is_loaded() -> None:
    code = (
        "import sys, edgeferry.client, edgeferry.client.rest, edgeferry.client.grpc, edgeferry.client.mqtt;"
        "bad = {'tensorflow', 'keras', 'ai_edge_litert', 'tflite_runtime', 'psutil', 'google'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
