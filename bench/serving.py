"""What serving costs on top of the interpreter: overhead, throughput and memory for one model.

    python bench/serving.py MODEL.tflite [--requests 500] [--threads 1] [--grpc]

Overhead is a client's whole round trip less the time in `invoke` of the same request, as the answer's Server-Timing
tells it; the client is part of it. The model's input goes in its own datatype, outputs come back as JSON or binary.
"""

import argparse
import hashlib
import json
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import grpc
import numpy as np

from edgeferry.agent.serving import protos
from edgeferry.agent.serving.command import ServingOptions, child_environment
from edgeferry.agent.serving.protobuf import encode_message
from edgeferry.agent.serving_client import Serve, ServingClient, ServingError
from edgeferry.inference.model import Model
from edgeferry.inference.quantization import DTYPES
from edgeferry.inference.selftest import record_selftest
from edgeferry.wire.blocks import BLOCK_BYTES
from edgeferry.wire.codec import encode
from edgeferry.wire.desired import ArtifactManifest, ManifestBlob, SelfTestSpec, block_sha256s
from edgeferry.wire.tensors import TensorBytes, encode_request

PORT_LINE = "and http://"


def manifest_for(model: Model, path: Path, folder: Path) -> Path:
    """Write a manifest of the model beside its self-test into ``folder``; return its path."""
    zeros = {s.name: np.zeros((1, *(abs(n) for n in s.shape)), DTYPES[s.datatype]) for s in model.inputs}
    record_selftest(model, zeros).save(folder / "selftest.npz")
    blobs = tuple(blob(role, file) for role, file in (("model", path), ("selftest", folder / "selftest.npz")))
    manifest = ArtifactManifest(
        1, "bench", 1, "bench", "int8", blobs, model.inputs, model.outputs, SelfTestSpec(samples=1)
    )
    (folder / "artifact.json").write_bytes(encode(manifest))
    return folder / "artifact.json"


def blob(role: str, path: Path) -> ManifestBlob:
    data = path.read_bytes()
    blocks = [data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES)]
    return ManifestBlob(
        role, path.name, hashlib.sha256(data).hexdigest(), len(data), BLOCK_BYTES, block_sha256s(blocks)
    )


class UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        """Open the connection."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def wait_for(client: ServingClient) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            client.ping()
        except ServingError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def invoke_ms(response: HTTPResponse) -> float:
    timing = response.getheader("Server-Timing", "")
    return float(timing.partition("invoke;dur=")[2].partition(",")[0])


def measure(requests: int, ask: Callable[[], float]) -> tuple[float, float]:
    """Return round trip and overhead at the median, in ms."""
    trips, overheads = [], []
    for _ in range(requests):
        began = time.perf_counter()
        invoked = ask()
        trip = (time.perf_counter() - began) * 1e3
        trips.append(trip)
        overheads.append(trip - invoked)
    return statistics.median(trips), statistics.median(overheads)


def bare_per_s(model: Model, inputs: dict[str, np.ndarray], requests: int) -> float:
    began = time.perf_counter()
    for _ in range(requests):
        model.run(inputs)
    return requests / (time.perf_counter() - began)


def served_per_s(ask: Callable[[], Callable[[], float]], requests: int, clients: int) -> float:
    def work() -> None:
        one = ask()
        for _ in range(requests // clients):
            one()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return requests // clients * clients / (time.perf_counter() - began)


def rss_mib(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def report_grpc(
    requests: int,
    rest: Callable[[], float],
    address: str,
    inputs: dict[str, np.ndarray],
    datatypes: dict[str, str],
) -> None:
    """Print a row over gRPC: it tells no time in `invoke`, so that of REST, asked in turn with it, is taken off."""
    tensors = [{"name": n, "datatype": datatypes[n], "shape": np.array(a.shape)} for n, a in inputs.items()]
    raw = [a.tobytes() for a in inputs.values()]
    fields = {"model_name": "bench", "inputs": tensors, "raw_input_contents": raw}
    body = encode_message(protos.INFER_REQUEST, fields)
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        invoked, trips = [], []
        for _ in range(requests):
            invoked.append(rest())
            began = time.perf_counter()
            call(body)
            trips.append((time.perf_counter() - began) * 1e3)
    trip, invoke = statistics.median(trips), statistics.median(invoked)
    print(f"{'gRPC, raw':21} {trip:8.3f} ms round trip, {trip - invoke:.3f} ms overhead")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--grpc", action="store_true", help="ask over gRPC as well; needs grpcio")
    arguments = parser.parse_args()
    model = Model.load(arguments.model, threads=arguments.threads)
    rng = np.random.default_rng(0)
    shapes = {s.name: ([abs(n) for n in s.shape], DTYPES[s.datatype]) for s in model.inputs}
    inputs = {name: rng.integers(0, 100, shape).astype(dtype) for name, (shape, dtype) in shapes.items()}
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        manifest = manifest_for(model, arguments.model, folder)
        grpc_address = f"127.0.0.1:{free_port()}" if arguments.grpc else None
        options = ServingOptions(folder / "serving.sock", "127.0.0.1:0", arguments.threads, grpc=grpc_address)
        began = time.perf_counter()
        process = subprocess.Popen(options.command(), env=child_environment(), stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr
            place = next(line for line in process.stderr if PORT_LINE in line).partition(PORT_LINE)[2]
            port = int(place.split()[0].rpartition(":")[2])
            threading.Thread(target=process.stderr.read, daemon=True).start()
            client = ServingClient(folder / "serving.sock", 60.0)
            wait_for(client)
            client.load(Serve("bench", 1, path=arguments.model.resolve(), manifest=manifest, label="stable"))
            places = {"port": port, "socket_path": folder / "serving.sock", "grpc_address": grpc_address}
            report(arguments.requests, model, inputs, pid=process.pid, began=began, **places)
        finally:
            process.terminate()
            process.wait()


def report(
    requests: int,
    model: Model,
    inputs: dict[str, np.ndarray],
    *,
    port: int,
    socket_path: Path,
    grpc_address: str | None,
    pid: int,
    began: float,
) -> None:
    datatypes = {s.name: s.datatype for s in model.inputs}
    tensors = [TensorBytes(n, datatypes[n], a.shape, a.tobytes()) for n, a in inputs.items()]
    body, header_bytes = encode_request(tensors)
    rows = json.dumps({"signature_name": "raw", "inputs": {n: a.tolist() for n, a in inputs.items()}}).encode()
    as_json = json.dumps(
        {
            "inputs": [
                {"name": n, "shape": a.shape, "datatype": datatypes[n], "data": a.ravel().tolist()}
                for n, a in inputs.items()
            ]
        }
    ).encode()

    def over(
        connection: HTTPConnection, sent: bytes, headers: dict[str, str], path: str = "/v2/models/bench/infer"
    ) -> Callable[[], float]:
        def ask() -> float:
            connection.request("POST", path, sent, headers)
            response = connection.getresponse()
            response.read()
            assert response.status == 200
            return invoke_ms(response)

        return ask

    def tcp() -> HTTPConnection:
        return HTTPConnection("127.0.0.1", port)

    binary = {"Inference-Header-Content-Length": str(header_bytes)}
    first = over(tcp(), body, binary)
    first()
    print(f"start to first answer {time.perf_counter() - began:8.2f} s")
    print(f"request               {len(body):8d} bytes binary, {len(as_json)} bytes JSON")
    for name, ask in (
        ("TCP, binary", first),
        ("Unix socket, binary", over(UnixConnection(socket_path), body, binary)),
        ("TCP, JSON", over(tcp(), as_json, {})),
        ("TCP, TFS's JSON", over(tcp(), rows, {}, "/v1/models/bench:predict")),
    ):
        trip, overhead = measure(requests, ask)
        print(f"{name:21} {trip:8.3f} ms round trip, {overhead:.3f} ms overhead")
    if grpc_address:
        report_grpc(requests, first, grpc_address, inputs, datatypes)
    bare = bare_per_s(model, inputs, requests)
    served = served_per_s(lambda: over(tcp(), body, binary), requests, 8)
    print(f"bare interpreter      {bare:8.1f} a second; served to 8 clients {served:.1f}, {served / bare:.0%}")
    print(f"memory                {rss_mib(pid):8.1f} MiB RSS")


if __name__ == "__main__":
    main()
