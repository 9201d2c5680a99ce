import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tests.models import artifact_folder, linear_model, reciprocal_model
from tests.serving.conftest import Server, count_down, wait_until

from edgeferry.agent.serving_client import Serve, ServingError
from edgeferry.wire.messages import Code, Reason

X = [{"name": "x", "shape": [1, 64], "datatype": "INT8", "data": [1] * 64}]


def versions(server: Server, model: str = "digits") -> list[str]:
    return server.request("GET", f"/v2/models/{model}").json()["versions"]


def test_a_new_version_takes_the_label_and_the_old_one_goes(server: Server) -> None:
    server.load(version=1)

    server.load(version=2)

    assert server.infer(inputs=X).json()["model_version"] == "2"
    assert versions(server) == ["2"]


def test_a_version_that_another_label_names_stays(server: Server) -> None:
    server.load(version=1)

    server.load(version=2, label="canary")

    assert versions(server) == ["1", "2"]
    assert server.infer(inputs=X).json()["model_version"] == "1"
    assert server.infer("digits/versions/2", inputs=X).json()["model_version"] == "2"
    assert server.infer("digits/versions/canary", inputs=X).json()["model_version"] == "2"


def test_where_there_are_labels_none_but_stable_answers_for_the_model(server: Server) -> None:
    server.load(version=1, label="old")
    server.load(version=2, label="new")

    assert server.infer(inputs=X).status == 404


def test_going_back_loads_the_older_version(server: Server) -> None:
    server.load(version=1)
    server.load(version=2)

    server.load(version=1)

    assert server.infer(inputs=X).json()["model_version"] == "1"


def test_loading_what_is_loaded_changes_nothing(server: Server) -> None:
    server.load()
    (before,) = server.serving.registry.models()["digits"]

    server.load()

    assert server.serving.registry.models()["digits"] == (before,)


def test_the_same_version_from_another_file_replaces_it(server: Server, tmp_path: Path) -> None:
    server.load()
    other = artifact_folder(tmp_path / "other", version=1, seed=9)

    server.client.load(
        Serve("digits", 1, path=other / "model.tflite", manifest=other / "artifact.json", label="stable")
    )

    (served,) = server.serving.registry.models()["digits"]
    assert served.path == other / "model.tflite"
    assert server.infer(inputs=X).status == 200


def test_unloading_forgets_a_model_and_does_so_twice(server: Server) -> None:
    server.load()

    server.client.unload("digits")
    server.client.unload("digits")

    assert server.infer(inputs=X).status == 404
    assert server.client.stats()["models"] == {}


def refused(server: Server, folder: Path, *, name: str = "digits", version: int = 2) -> ServingError:
    with pytest.raises(ServingError) as caught:
        server.client.load(
            Serve(name, version, path=folder / "model.tflite", manifest=folder / "artifact.json", label="stable")
        )
    assert server.infer(inputs=X).json()["model_version"] == "1"
    return caught.value


def test_a_model_that_is_none_is_refused_and_the_old_one_serves_on(server: Server, tmp_path: Path) -> None:
    server.load(version=1)
    folder = artifact_folder(tmp_path / "bad", version=2)
    (folder / "model.tflite").write_bytes(b"garbage")

    error = refused(server, folder)

    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, Reason.MODEL_INVALID)
    assert "model.tflite cannot be loaded" in error.detail


def test_a_model_with_other_tensors_than_promised_is_refused(server: Server, tmp_path: Path) -> None:
    server.load(version=1)
    folder = artifact_folder(tmp_path / "bad", version=2)
    linear_model(folder / "model.tflite", features=3)

    error = refused(server, folder)

    assert error.reason == Reason.MANIFEST_MISMATCH
    assert error.detail.startswith("the model's inputs are x FP32[1, 3]")


def test_a_manifest_of_another_version_or_none_is_refused(server: Server, tmp_path: Path) -> None:
    server.load(version=1)
    folder = artifact_folder(tmp_path / "bad", version=3)
    assert refused(server, folder).detail == "the manifest is of digits 3, wanted digits 2"
    (folder / "artifact.json").write_bytes(b"{}")
    assert refused(server, folder).reason == Reason.MANIFEST_MISMATCH


def test_a_relative_path_and_a_wrong_body_are_refused(server: Server) -> None:
    with pytest.raises(ServingError, match="have to be absolute"):
        server.client.load(Serve("digits", 1, path=Path("m"), manifest=Path("a"), label="stable"))
    with pytest.raises(ServingError, match="version"):
        server.client.load(Serve("digits", 0, path=Path("/m"), manifest=Path("/a"), label="stable"))


def test_no_request_fails_while_versions_change(server: Server) -> None:
    folders = {n: server.load(version=n) for n in (2, 1)}
    expected = set()
    for number, folder in folders.items():
        server.load(version=number)
        expected.add((number, tuple(server.infer(inputs=X).json()["outputs"][0]["data"])))
        assert folder.exists()
    stop = threading.Event()
    seen: list[tuple[int, tuple[int, ...]]] = []
    failures: list[bytes] = []

    def ask() -> None:
        while not stop.is_set():
            answer = server.infer(inputs=X)
            if answer.status != 200:
                failures.append(answer.body)
                return
            body = answer.json()
            seen.append((int(body["model_version"]), tuple(body["outputs"][0]["data"])))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for round_ in range(20):
        server.load(version=1 + round_ % 2)
    stop.set()
    for thread in threads:
        thread.join()

    assert failures == []
    assert set(seen) == expected


def test_a_request_that_runs_is_answered_by_the_version_that_took_it(server: Server) -> None:
    server.load_slow()
    answers = []
    running = server.serving.registry.models()["slow"][0].queue
    asking = threading.Thread(target=lambda: answers.append(server.infer("slow", inputs=count_down(1e6))))
    asking.start()
    wait_until(lambda: running.is_running)

    server.load("slow", version=2)
    asking.join()

    assert answers[0].json()["model_version"] == "1"
    assert versions(server, "slow") == ["2"]


def test_memory_comes_back_after_many_changes(server: Server) -> None:
    large = {"features": 50_000, "classes": 20}
    for version in (1, 2):
        server.load(version=version, **large)
    for _ in range(4):
        server.load(version=1)
        server.load(version=2)
    alone = psutil.Process().memory_info().rss

    for _ in range(10):
        server.load(version=1)
        server.load(version=2)
    wait_until(lambda: psutil.Process().memory_info().rss < alone + 4 * 1024 * 1024)


def test_a_version_that_hangs_is_given_up_and_the_next_one_serves(serve: Callable[..., Server]) -> None:
    server = serve(request_timeout_s=0.2)
    server.load_slow()
    server.infer("slow", inputs=count_down(3e6), headers={"X_Request_Timeout_Ms": "20"})

    server.load("slow", version=2)

    assert server.infer("slow", inputs=X).json()["model_version"] == "2"


def test_zeros_that_a_model_does_not_take_are_no_reason_to_refuse_it(server: Server) -> None:
    server.load("reciprocal", model=reciprocal_model)

    one = server.infer("reciprocal", inputs=[{"name": "x", "shape": [1], "datatype": "INT32", "data": [1]}])
    zero = server.infer("reciprocal", inputs=[{"name": "x", "shape": [1], "datatype": "INT32", "data": [0]}])

    assert one.json()["outputs"][0]["data"] == [1]
    assert zero.status == 500
