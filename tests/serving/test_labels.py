"""Several versions of a model at once: which one answers, and how one takes over from another."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.models import artifact_folder, countdown_model
from tests.serving.conftest import Server, count_down, wait_until

from edgeferry.agent.serving import protos
from edgeferry.agent.serving.protobuf import decode_message, encode_message
from edgeferry.agent.serving.routing import is_canary
from edgeferry.agent.serving.tfs_tensors import tensor_to_proto
from edgeferry.agent.serving_client import Serve, ServingError, Takeover
from edgeferry.wire.messages import Reason, Swap

X = [{"name": "x", "shape": [1, 64], "datatype": "INT8", "data": [1] * 64}]
CHOSEN = next(f"user-{n}" for n in range(1000) if is_canary(10, "digits", 2, f"user-{n}"))
LEFT = next(f"user-{n}" for n in range(1000) if not is_canary(90, "digits", 2, f"user-{n}"))


def load(
    server: Server, version: int, label: str, *, name: str = "digits", percent: int = 0, stops_first: bool = False
) -> Takeover:
    folder = server._artifacts / name / str(version) / "generic-x86-64"
    if not folder.exists():
        artifact_folder(server._artifacts, name=name, version=version)
    wanted = Serve(name, version, folder / "model.tflite", folder / "artifact.json", label, percent)
    return server.client.load(wanted, stops_first=stops_first)


@pytest.fixture
def both(server: Server) -> Server:
    """A server with version 1 as stable and version 2 as the canary, with half of the requests."""
    load(server, 1, "stable")
    load(server, 2, "canary", percent=50)
    return server


def version(server: Server, *, headers: dict[str, str] | None = None, **request: Any) -> str:
    answer = server.infer(inputs=X, headers=headers, **request)
    assert answer.status == 200, answer.body
    found: str = answer.json()["model_version"]
    return found


class TestTheShare:
    @given(percent=st.integers(0, 100), key=st.text(min_size=1), version=st.integers(1, 99))
    def test_the_same_key_is_always_routed_alike(self, percent: int, key: str, version: int) -> None:
        assert is_canary(percent, "digits", version, key) == is_canary(percent, "digits", version, key)

    @given(percent=st.integers(0, 99), key=st.text(min_size=1))
    def test_a_key_that_has_the_canary_keeps_it_when_its_share_grows(self, percent: int, key: str) -> None:
        assert is_canary(percent, "digits", 2, key) <= is_canary(percent + 1, "digits", 2, key)

    @pytest.mark.parametrize("key", ["", "user"])
    def test_nobody_has_it_with_0_and_everybody_with_100(self, key: str) -> None:
        assert not is_canary(0, "digits", 2, key)
        assert is_canary(100, "digits", 2, key)

    def test_as_many_keys_have_it_as_its_share_says(self) -> None:
        chosen = sum(is_canary(10, "digits", 2, f"user-{number}") for number in range(10_000))

        assert 900 < chosen < 1100

    def test_each_version_has_other_keys(self) -> None:
        keys = [f"user-{number}" for number in range(1000)]

        both = sum(is_canary(10, "digits", 2, key) and is_canary(10, "digits", 3, key) for key in keys)

        assert both < 30

    def test_requests_without_a_key_are_spread(self, both: Server) -> None:
        assert {version(both) for _ in range(64)} == {"1", "2"}


class TestRouting:
    def test_a_key_in_the_header_decides(self, both: Server) -> None:
        load(both, 2, "canary", percent=10)

        assert {version(both, headers={"X-Routing-Key": CHOSEN}) for _ in range(8)} == {"2"}
        assert {version(both, headers={"X-Routing-Key": LEFT}) for _ in range(8)} == {"1"}

    def test_a_key_among_the_parameters_decides(self, both: Server) -> None:
        assert {version(both, parameters={"routing_key": CHOSEN}) for _ in range(8)} == {"2"}
        assert {version(both, parameters={"routing_key": LEFT}) for _ in range(8)} == {"1"}

    def test_a_sequence_stays_with_its_version(self, both: Server) -> None:
        first = [version(both, parameters={"sequence_id": n, "sequence_start": True}) for n in range(1, 9)]
        again = [version(both, parameters={"sequence_id": n}) for n in range(1, 9)]

        assert first == again
        assert set(first) == {"1", "2"}

    def test_a_raw_body_is_routed_too(self, both: Server) -> None:
        fields = {"Inference-Header-Content-Length": "0", "X-Routing-Key": CHOSEN}

        answer = both.request("POST", "/v2/models/digits/infer", bytes(64), **fields)

        assert answer.json()["model_version"] == "2"

    def test_over_mqtts_bridge_a_key_of_any_kind_is_sticky(self, both: Server) -> None:
        keys = ["plain", "ä" * 9, " space ", "x" * 5000, "\r\nInjected: yes"]
        body = b'{"inputs":[{"name":"x","shape":[1,64],"datatype":"INT8","data":[' + b",".join([b"1"] * 64) + b"]}]}"

        for key in keys:
            answers = {both.client.infer("digits", "", body, None, 5.0, routing_key=key)[1] for _ in range(6)}
            assert len(answers) == 1, key

    def test_who_names_a_version_or_label_gets_it(self, both: Server) -> None:
        fields = {"headers": {"X-Routing-Key": CHOSEN}, "inputs": X}

        assert both.infer("digits/versions/1", **fields).json()["model_version"] == "1"
        assert both.infer("digits/versions/stable", **fields).json()["model_version"] == "1"
        assert both.infer("digits/versions/canary", inputs=X).json()["model_version"] == "2"

    def test_a_canary_without_a_share_is_for_those_who_name_it(self, both: Server) -> None:
        load(both, 2, "canary", percent=0)

        assert {version(both) for _ in range(16)} == {"1"}
        assert both.infer("digits/versions/canary", inputs=X).json()["model_version"] == "2"

    def test_a_broken_request_is_told_as_without_a_canary(self, both: Server) -> None:
        answer = both.request("POST", "/v2/models/digits/infer", b"{")

        assert answer.status == 400
        assert "InferRequest" in answer.json()["error"]

    def test_tensorflow_servings_rest_is_routed_by_the_header(self, both: Server) -> None:
        body = '{"instances":[[' + ",".join(["0.5"] * 64) + "]]}"
        by_label = {
            label: both.request("POST", f"/v1/models/digits/labels/{label}:predict", body).body
            for label in ("stable", "canary")
        }

        def answer(key: str) -> bytes:
            return both.request("POST", "/v1/models/digits:predict", body, X_Routing_Key=key).body

        assert (answer(CHOSEN), answer(LEFT)) == (by_label["canary"], by_label["stable"])

    def test_grpc_is_routed_by_its_metadata_and_by_parameters(self, serve: Callable[..., Server]) -> None:
        server = serve(grpc="127.0.0.1:0")
        load(server, 1, "stable")
        load(server, 2, "canary", percent=50)
        tensors = {"x": tensor_to_proto(np.full((1, 64), 0.5, np.float32))}
        predict = encode_message(protos.PREDICT_REQUEST, {"model_spec": {"name": "digits"}, "inputs": tensors})
        tensor = {"name": "x", "datatype": "INT8", "shape": np.array([1, 64])}
        infer = {"model_name": "digits", "inputs": [tensor], "raw_input_contents": [bytes(64)]}

        with grpc.insecure_channel(server.serving.grpc) as channel:
            call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            answers = [call(predict, metadata=[("x-routing-key", key)], timeout=10) for key in (CHOSEN, LEFT)]
            ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            keyed = [{**infer, "parameters": {"routing_key": {"string_param": key}}} for key in (CHOSEN, LEFT)]
            inferred = [ask(encode_message(protos.INFER_REQUEST, each), timeout=10) for each in keyed]

        specs = [decode_message(protos.PREDICT_RESPONSE, answer)["model_spec"] for answer in answers]
        assert [spec["version"]["value"] for spec in specs] == [2, 1]
        versions = [decode_message(protos.INFER_RESPONSE, answer)["model_version"] for answer in inferred]
        assert versions == ["2", "1"]


class TestChanges:
    def test_a_promotion_moves_a_label_and_loads_nothing(self, both: Server) -> None:
        canary = both.serving.registry.models()["digits"][1]

        takeover = load(both, 2, "stable")
        both.client.unload("digits", "canary")

        assert takeover == Takeover(Swap.BOTH)
        assert both.serving.registry.models()["digits"] == (canary,)
        assert both.serving.registry.labels("digits") == {"stable": 2}
        assert {version(both) for _ in range(16)} == {"2"}

    def test_a_withdrawn_canary_is_unloaded_and_the_stable_version_answers_everything(self, both: Server) -> None:
        both.client.unload("digits", "canary")
        both.client.unload("digits", "canary")

        assert {version(both) for _ in range(16)} == {"1"}
        assert [each.version for each in both.serving.registry.models()["digits"]] == [1]
        assert both.serving.registry.percent("digits") == 0

    def test_the_last_label_takes_the_model_with_it(self, both: Server) -> None:
        both.client.unload("digits", "canary")
        both.client.unload("digits", "stable")

        assert both.infer(inputs=X).status == 404
        assert both.serving.registry.models() == {}

    def test_a_canary_alone_does_not_answer_for_the_stable_version(self, both: Server) -> None:
        load(both, 2, "canary", percent=0)

        both.client.unload("digits", "stable")

        answer = both.infer(inputs=X)
        assert answer.status == 404
        assert "has no version or label 'stable'; loaded are 2, canary" in answer.json()["error"]

    def test_the_first_version_takes_over_from_nobody(self, server: Server) -> None:
        assert load(server, 1, "stable", stops_first=True) == Takeover()

    def test_where_there_is_room_for_one_the_old_version_goes_first(self, server: Server) -> None:
        load(server, 1, "stable")

        takeover = load(server, 2, "stable", stops_first=True)

        assert takeover.swap is Swap.STOP_FIRST
        assert takeover.gap_ms > 0
        assert version(server) == "2"

    def test_a_version_that_is_there_already_needs_no_room(self, both: Server) -> None:
        assert load(both, 2, "stable", stops_first=True) == Takeover(Swap.BOTH)

    def test_in_between_requests_are_told_to_come_again(self, server: Server) -> None:
        server.load_slow()
        (slow,) = server.serving.registry.models()["slow"]
        asked = threading.Thread(target=lambda: server.infer("slow", inputs=count_down(2e6)))
        asked.start()
        wait_until(lambda: slow.queue.is_running)
        changed = threading.Thread(target=lambda: _exchange(server, server._artifacts))
        changed.start()  # waits until the old version has answered

        wait_until(lambda: not server.serving.registry.models().get("slow"))
        answer = server.infer("slow", inputs=count_down(1))

        asked.join()
        changed.join()
        assert answer.status == 503
        assert "is being changed" in answer.json()["error"]
        assert server.infer("slow", inputs=count_down(1)).json()["model_version"] == "2"

    def test_a_version_that_cannot_be_loaded_in_the_place_of_another_leaves_none(
        self, server: Server, tmp_path: Path
    ) -> None:
        load(server, 1, "stable")
        folder = artifact_folder(tmp_path / "bad", version=2)
        (folder / "model.tflite").write_bytes(b"garbage")

        with pytest.raises(ServingError) as caught:
            server.client.load(
                Serve("digits", 2, folder / "model.tflite", folder / "artifact.json", "stable"), stops_first=True
            )

        assert caught.value.reason is Reason.MODEL_INVALID
        assert server.infer(inputs=X).status == 404
        assert load(server, 1, "stable") == Takeover()  # as the agent does then
        assert version(server) == "1"


def _exchange(server: Server, artifacts: Path) -> None:
    folder = artifact_folder(artifacts, name="slow", version=2, model=countdown_model)
    wanted = Serve("slow", 2, folder / "model.tflite", folder / "artifact.json", "stable")
    server.client.load(wanted, stops_first=True)
