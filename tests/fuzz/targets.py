"""The parsers that face the network or the disk. A new one gets its line here.

Each has the errors that its docstring promises, and right inputs to begin from.
"""

import atexit
import gzip
import io
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import msgspec
import numpy as np

from edgeferry.agent.fsops import Disk
from edgeferry.agent.serving import protos
from edgeferry.agent.serving.errors import RequestError
from edgeferry.agent.serving.http_message import HttpError, parse_head
from edgeferry.agent.serving.inflating import inflate
from edgeferry.agent.serving.oip_request import decode_infer
from edgeferry.agent.serving.protobuf import Schema, decode_message, encode_message
from edgeferry.agent.serving.signatures import Signature
from edgeferry.agent.serving.tfs_predict import decode_predict
from edgeferry.agent.serving.tfs_tensors import tensor_from_proto, tensor_to_proto
from edgeferry.agent.spool import Spool
from edgeferry.agent.state import AgentState, decode_state, encode_state
from edgeferry.agent.transfer import BlockMap
from edgeferry.agent.trust import TrustError
from edgeferry.fleet.errors import FleetError
from edgeferry.fleet.roots import parse_public_key, parse_root
from edgeferry.inference.flatbuffer import FlatbufferError
from edgeferry.inference.metadata import find_metadata
from edgeferry.inference.selftest import SelfTest, SelfTestError
from edgeferry.wire.bench import BenchParameters, BenchReport
from edgeferry.wire.blocks import Block, parse_block_request
from edgeferry.wire.codec import WireError, decode
from edgeferry.wire.desired import TensorSpec, decode_document, decode_manifest
from edgeferry.wire.difference import difference_of, new_bytes
from edgeferry.wire.joining import parse_token
from edgeferry.wire.messages import Event, Info, Request, Response, State, Telemetry
from edgeferry.wire.tensors import decode_response, split_body, unpack_mqtt
from edgeferry.wire.topics import Topics
from tests.models import linear_model
from tests.trust.simulator import Device, Fleet
from tests.wire.examples import DIFFERENCE

__all__ = ["Target", "targets"]

_GOLDEN = Path(__file__).parent.parent / "wire" / "golden"
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Target:
    """A parser.

    Attributes:
        parse: Takes any bytes.
        errors: What it may raise.
        seeds: Inputs that it takes.
        weight: How many inputs it gets, beside the others: fewer where one takes milliseconds.
    """

    name: str
    parse: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]
    weight: int = 100


@cache
def targets() -> tuple[Target, ...]:
    """Return every target, by name; what they need lies in a temporary folder for as long as the process lives."""
    folder = Path(tempfile.mkdtemp(prefix="edgeferry-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    found = (*_wire(), *_http(), *_protobuf(), *_trust(folder), *_disk(folder), *_workstation(folder))
    return tuple(sorted(found, key=lambda target: target.name))


def _golden(*names: str) -> tuple[bytes, ...]:
    return tuple((_GOLDEN / name).read_bytes() for name in names)


def _wire() -> tuple[Target, ...]:
    kinds: dict[str, type[msgspec.Struct]] = {
        "info": Info,
        "state": State,
        "telemetry": Telemetry,
        "event": Event,
        "request": Request,
        "bench_parameters": BenchParameters,
        "bench_report": BenchReport,
    }
    messages = [
        Target(f"message-{name}", partial(decode, kind), (WireError,), _golden(f"{name}.json"))
        for name, kind in kinds.items()
    ]
    request = json.dumps(
        {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}]}
    )
    return (
        *messages,
        Target(
            "message-response",
            partial(decode, Response),
            (WireError,),
            _golden("response_ok.json", "response_error.json"),
        ),
        Target(
            "topic",
            lambda data: Topics().parse(data.decode(errors="replace")),
            (WireError,),
            tuple(
                f"edgeferry/v1/{rest}".encode()
                for rest in ("d/pi/state", "d/pi/infer/digits/7", "tuf/root.3", "blob/req/pi")
            ),
        ),
        Target("block-request", parse_block_request, (WireError,), _golden("block_request.json")),
        Target("block", Block.from_bytes, (WireError,), _golden("block.bin")),
        Target("document", decode_document, (WireError,), _golden("desired_document.json")),
        Target("manifest", decode_manifest, (WireError,), _golden("artifact_manifest.json")),
        Target("token", lambda data: parse_token(data.decode(errors="replace")), (WireError,), _golden("token.txt")),
        Target("difference", _applied, (WireError,), (difference_of(*DIFFERENCE),)),
        Target("difference-inside", _applied_inside, (WireError,), (zlib.decompress(difference_of(*DIFFERENCE)[20:]),)),
        Target("tensors-mqtt", _unpacked, (WireError,), _golden("infer_mqtt.bin")),
        Target("tensors-request", _split, (WireError,), (request.encode() + bytes(16), *_golden("infer_request.json"))),
        Target("tensors-response", _split_response, (WireError,), _golden("infer_response.json")),
    )


def _applied(data: bytes) -> None:
    old, new, _ = DIFFERENCE
    pieces = new_bytes(
        io.BytesIO(data).read, lambda at, size: old[at : at + size], old_count=len(old), new_count=len(new)
    )
    assert sum(map(len, pieces)) == len(new)


def _applied_inside(data: bytes) -> None:
    _applied(difference_of(*DIFFERENCE)[:20] + zlib.compress(data))


def _unpacked(data: bytes) -> None:
    unpacked = unpack_mqtt(data)
    if unpacked:
        split_body(*unpacked, max_header_bytes=_MAX_BYTES)


def _split(data: bytes) -> None:
    split_body(data, data.rfind(b"}") + 1, max_header_bytes=_MAX_BYTES)


def _split_response(data: bytes) -> None:
    decode_response(data, data.rfind(b"}") + 1, max_header_bytes=_MAX_BYTES)


_INPUTS = (TensorSpec("x", "FP32", (-1, 4)),)
_OUTPUTS = (TensorSpec("y", "FP32", (-1, 3)),)
_SIGNATURE = Signature("serving_default", _INPUTS, _OUTPUTS, _INPUTS, _OUTPUTS)


def _http() -> tuple[Target, ...]:
    heads = (
        b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: pi\r\nContent-Length: 12\r\nContent-Type: application/json",
        b"GET /v1/models/digits/versions/7:predict?x=%20 HTTP/1.1\r\nHost: pi\r\nConnection: close\r\nAccept: */*",
    )
    tensor = b'{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2.5,-3e2,0]}'
    infer = b'{"id":"1","inputs":[' + tensor + b'],"outputs":[{"name":"y"}]}'
    predict = (
        b'{"instances":[[1,2,3,4],[5,6.5,7,8]]}',
        b'{"inputs":{"x":[[1,2,3,4]]},"signature_name":"serving_default"}',
        b'{"instances":[{"x":{"b64":"AACAPwAAAEAAAEBAAACAQA=="}}]}',
    )
    return (
        Target("http-head", parse_head, (HttpError,), heads),
        Target(
            "rest-oip",
            lambda data: decode_infer(bytearray(data), None, _INPUTS, _OUTPUTS),
            (RequestError,),
            (infer,),
            40,
        ),
        Target(
            "rest-oip-binary",
            lambda data: decode_infer(bytearray(data), data.rfind(b"}") + 1, _INPUTS, _OUTPUTS),
            (RequestError,),
            (infer.replace(b'"data":[1,2.5,-3e2,0]', b'"parameters":{"binary_data_size":16}') + bytes(16),),
            40,
        ),
        Target("rest-tfs", lambda data: decode_predict(data, lambda _: _SIGNATURE), (RequestError,), predict, 40),
        Target("body-gzip", lambda data: _inflated(data, "gzip"), (HttpError,), (gzip.compress(infer * 4, mtime=0),)),
    )


def _inflated(data: bytes, encoding: str) -> None:
    size = 0
    for piece in inflate(data, encoding):
        size += len(piece)
        if size > _MAX_BYTES:  # whoever reads it counts, and stops
            return


def _protobuf() -> tuple[Target, ...]:
    tensor = tensor_to_proto(np.arange(8, dtype=np.float32).reshape(2, 4))
    examples = {
        "predict": (
            protos.PREDICT_REQUEST,
            {"model_spec": {"name": "digits"}, "inputs": {"x": tensor}, "output_filter": ["y"]},
        ),
        "examples": (protos.EXAMPLES_REQUEST, {"model_spec": {"name": "digits"}}),
        "infer": (protos.INFER_REQUEST, {"model_name": "digits", "id": "1"}),
    }
    made = [
        Target(
            f"protobuf-{name}",
            partial(_decoded, schema),
            (WireError, RequestError),
            (bytes(encode_message(schema, fields)), b"\x0a\x02\x08\x01"),
        )
        for name, (schema, fields) in examples.items()
    ]
    return tuple(made)


def _decoded(schema: Schema, data: bytes) -> None:
    for name, proto in (
        (decode_message(schema, data).get("inputs") or {}).items() if schema is protos.PREDICT_REQUEST else ()
    ):
        tensor_from_proto(name, proto)
    decode_message(schema, data)


def _trust(folder: Path) -> tuple[Target, ...]:
    """What a device believes, with bytes in the place of each thing that comes from outside or from its disk."""
    fleet = Fleet(folder / "trust")
    fleet.enroll("cam-1", "porch")
    fleet.push(1)
    device = Device(folder / "run", fleet.repository.roots()[1])
    device.follow(fleet.broker(), fleet.now_ms)
    kept = dict(device.files)
    fleet.push(2)
    true = fleet.broker()
    snapshot = fleet.publication().snapshot

    def look(**offered: bytes) -> None:
        roots = {**true.roots, **({2: offered["root"]} if "root" in offered else {})}
        blob = offered.get("snapshot")
        try:
            device.client.refresh(
                roots=roots,
                timestamp=offered.get("timestamp", true.timestamp),
                blob=lambda ref: (
                    blob if blob is not None and ref.sha256 == snapshot.sha256 else device.blobs.get(ref.sha256)
                ),
                now_ms=fleet.now_ms,
                final=True,
            )
        finally:
            remembered = device.remember(fleet.now_ms)
            assert remembered is not None
            assert remembered.wishes["digits"].version == 1, "something that nobody signed was believed"

    def start(data: bytes, name: str) -> None:
        device.files = {**kept, name: data}
        try:
            device.boot()
            device.remember(fleet.now_ms)
        finally:
            device.files = kept
            device.boot()

    files = [
        Target(f"kept-{name}", partial(start, name=name), (), (data,), 1)
        for name, data in kept.items()
        if name != "1.root.json"
    ]
    return (
        Target("timestamp", lambda data: look(timestamp=data), (TrustError,), (true.timestamp,), 2),
        Target("root", lambda data: look(root=data), (TrustError,), (true.roots[1],), 2),
        Target("snapshot", lambda data: look(snapshot=data), (TrustError,), (fleet.blob(snapshot.sha256) or b"",), 1),
        *files,
    )


def _disk(folder: Path) -> tuple[Target, ...]:
    spool = folder / "spool"
    spool.mkdir()
    model = linear_model(folder / "model.tflite", quantized=True)
    selftest = folder / "selftest.npz"
    SelfTest({"x": np.zeros((2, 4), np.float32)}, {"y": np.ones((2, 3), np.float32)}).save(selftest)
    event = _golden("event.json")[0]
    return (
        Target("state", decode_state, (WireError,), (encode_state(AgentState()), b"")),
        Target("partial-map", _mapped, (), (bytes(125), b"\xff" * 125)),
        Target("spool", partial(_spooled, spool), (), (event + b"\n" + event.replace(b"\n", b"") + b"\n",), 2),
        Target("flatbuffer", find_metadata, (FlatbufferError,), (model.read_bytes(),)),
        Target("selftest", partial(_self_tested, selftest), (SelfTestError,), (selftest.read_bytes(),), 10),
    )


def _mapped(data: bytes) -> None:
    block_map = BlockMap(1000, data)
    assert block_map.to_bytes() is not None
    assert block_map.has(999) in {True, False}


def _spooled(folder: Path, data: bytes) -> None:
    (folder / f"{1:012}.jsonl").write_bytes(data)
    spool = Spool(folder, Disk())
    spool.open()
    list(spool.after(0))


def _self_tested(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    SelfTest.load(path)


def _workstation(folder: Path) -> tuple[Target, ...]:
    root = max((folder / "trust" / "fleet" / "roots").iterdir()).read_bytes()
    public = {"keyid": "0" * 64, "keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "00" * 32}}

    def parse_public(data: bytes) -> None:
        value = None
        with suppress(ValueError, RecursionError):
            value = json.loads(data)
        parse_public_key(value, "x")

    return (
        Target("proposed-root", lambda data: parse_root(data, "x"), (FleetError,), (root,), 20),
        Target("public-key", parse_public, (FleetError,), (json.dumps(public).encode(),)),
    )
