"""One of each message, with every field set, as the golden files spell it."""

import hashlib

from msgspec import Raw

from edgeferry.wire.bench import BenchParameters, BenchReport
from edgeferry.wire.blocks import Block, BlockRequest
from edgeferry.wire.codec import Message
from edgeferry.wire.desired import (
    ArtifactManifest,
    BlobRef,
    DesiredDocument,
    DifferenceRef,
    ManifestBlob,
    ModelWish,
    SelfTestSpec,
    TensorSpec,
    Wish,
    block_sha256s,
)
from edgeferry.wire.difference import Operation, Piece
from edgeferry.wire.joining import JoinToken
from edgeferry.wire.messages import (
    Code,
    Event,
    EventKind,
    Info,
    LabelState,
    LabelTelemetry,
    ModelState,
    ModelTelemetry,
    Outcome,
    Problem,
    Reason,
    Request,
    Response,
    Result,
    State,
    Swap,
    Telemetry,
    TransferState,
)
from edgeferry.wire.tensors import (
    InferRequest,
    InferResponse,
    InputTensor,
    OutputTensor,
    RequestedOutput,
    TensorBytes,
)

SHA256 = hashlib.sha256(b"edgeferry").hexdigest()
NOW_MS = 1_767_225_600_000
PROBLEM = Problem(code=Code.DATA_LOSS, reason=Reason.SELFTEST_MISMATCH, detail="output probabilities differs")

MANIFEST = ArtifactManifest(
    format=1,
    name="digits",
    version=7,
    profile="raspberry-pi-4",
    scheme="int8",
    blobs=(
        ManifestBlob(
            role="model",
            path="model.tflite",
            sha256=SHA256,
            size_bytes=1500,
            block_bytes=1024,
            block_sha256s=block_sha256s([b"a" * 1024, b"b" * 476]),
        ),
        ManifestBlob(
            role="selftest",
            path="selftest.npz",
            sha256=hashlib.sha256(b"selftest").hexdigest(),
            size_bytes=8,
            block_bytes=1024,
            block_sha256s=block_sha256s([b"selftest"]),
        ),
    ),
    inputs=(TensorSpec(name="image", datatype="INT8", shape=(1, 8, 8, 1), scale=0.0625, zero_point=-128),),
    outputs=(TensorSpec(name="probabilities", datatype="INT8", shape=(1, 10), scale=0.00390625, zero_point=-128),),
    selftest=SelfTestSpec(samples=4, steps=2, atol=1e-6, rtol=1e-3),
    memory_bytes=4_194_304,
    labels=("zero", "one"),
    preprocessing={"scale": 0.0625},
    evaluation={"accuracy": 0.97},
)
DOCUMENT = DesiredDocument(
    format=1,
    models={
        "digits": Wish(
            versions=(6, 7),
            labels={"stable": 6, "canary": 7},
            settings={"canary_percent": 10},
            attempt=1,
            attempts={"canary": 2},
        )
    },
    groups=("kitchen", "north"),
)

FIGURES = LabelTelemetry(version=6, rps=3.5, total=812, errors_total=1, p50_ms=30.5, p95_ms=40.25)

MESSAGES: dict[str, Message] = {
    "bench_parameters": BenchParameters(model="digits", version=7, seconds=2.5),
    "difference": DifferenceRef(
        base=hashlib.sha256(b"version 6").hexdigest(),
        made=SHA256,
        sha256=hashlib.sha256(b"a few bytes").hexdigest(),
        size_bytes=350,
    ),
    "bench_report": BenchReport(
        model="digits",
        version=7,
        profile="raspberry-pi-4",
        scheme="int8",
        sha256=SHA256,
        threads=4,
        runs=812,
        load_ms=7.25,
        p50_ms=6.125,
        p95_ms=6.5,
        peak_rss_bytes=50_331_648,
    ),
    "info": Info(
        v=1,
        id="pi-kitchen",
        profile="raspberry-pi-4",
        boot="7f3a",
        groups=("kitchen",),
        hardware={"model": "Raspberry Pi 4 Model B Rev 1.5", "cores": 4},
        versions={"edgeferry": "0.1.0"},
        endpoints={"rest": "http://127.0.0.1:8501"},
        capabilities=("infer",),
        root_version=3,
        max_packet_bytes=131_072,
    ),
    "state": State(
        v=1,
        ts=NOW_MS,
        boot="7f3a",
        generation=12,
        root_version=3,
        metadata_expires_ms=NOW_MS + 86_400_000,
        models={
            "digits": ModelState(
                wanted=7,
                phase="fetching",
                labels={"stable": 6, "canary": 7},
                previous=5,
                scheme="int8",
                deployment=SHA256,
                watched_until_ms=NOW_MS + 60_000,
                transfer=TransferState(sha256=SHA256, done_bytes=65_536, total_bytes=131_072, origin="laptop"),
                last=Result(
                    deployment=SHA256, version=6, outcome=Outcome.ROLLED_BACK, ended_ms=NOW_MS - 5, problem=PROBLEM
                ),
                quarantined=True,
                figures=FIGURES,
                others={
                    "canary": LabelState(
                        wanted=7,
                        phase="watching",
                        last=Result(
                            deployment=SHA256,
                            version=7,
                            outcome=Outcome.ACTIVE,
                            ended_ms=NOW_MS - 4,
                            swap=Swap.STOP_FIRST,
                            gap_ms=140,
                        ),
                        percent=10,
                    )
                },
            )
        },
        metadata=Problem(code=Code.FAILED_PRECONDITION, reason=Reason.METADATA_EXPIRED),
        waiting=Problem(code=Code.UNAVAILABLE, reason=Reason.WAITING_FOR_ORIGIN, detail="no origin is online"),
        serving="running",
    ),
    "telemetry": Telemetry(
        v=1,
        ts=NOW_MS,
        boot="7f3a",
        seq=812,
        interval_s=10.0,
        uptime_s=86_400,
        cpu_pct=23.4,
        load1=0.71,
        cpu_temp_c=58.2,
        cpu_mhz=1500.0,
        throttled=False,
        undervoltage=False,
        wifi_dbm=-58.0,
        storage_used_pct=10.0,
        mem_pct=41.0,
        mem_used_bytes=402_653_184,
        mem_avail_bytes=603_979_776,
        agent_rss_bytes=31_457_280,
        serving_rss_bytes=71_303_168,
        disk_pct=37.5,
        disk_free_bytes=18_253_611_008,
        net_rx_bytes=123,
        net_tx_bytes=456,
        infer_total=120_934,
        infer_errors_total=3,
        infer_rps=4.2,
        queue_depth=0,
        serving_share=1.0,
        models={
            "digits": ModelTelemetry(
                version=7,
                rps=4.2,
                total=120_934,
                errors_total=3,
                p50_ms=31.0,
                p95_ms=38.5,
                p99_ms=52.1,
                queue_p95_ms=1.2,
                labels={"canary": FIGURES},
            )
        },
    ),
    "event": Event(
        v=1,
        seq=41,
        ts=NOW_MS,
        kind=EventKind.DEPLOYMENT,
        model="digits",
        version=7,
        deployment=SHA256,
        outcome=Outcome.FAILED,
        code=Code.DATA_LOSS,
        reason=Reason.SELFTEST_MISMATCH,
        detail="output probabilities differs",
        label="canary",
        swap=Swap.STOP_FIRST,
        gap_ms=140,
    ),
    "request": Request(
        id="c1", reply_to="edgeferry/v1/d/pi-kitchen/res/laptop", deadline_ms=NOW_MS, parameters={"events_after": 40}
    ),
    "response_ok": Response(id="c1", ok=Raw(b'{"pong":true}')),
    "response_error": Response(id="c1", error=PROBLEM),
    "block_request": BlockRequest(
        v=1,
        transfer=9,
        sha256=SHA256,
        block_bytes=65_536,
        first=128,
        count=11,
        bitmap="oCA=",
        origin="laptop",
        again=True,
    ),
    "desired_document": DOCUMENT,
    "artifact_manifest": MANIFEST,
    "model_wish": ModelWish(
        model="digits",
        version=7,
        manifest=BlobRef(sha256=SHA256, size_bytes=2048),
        attempt=1,
        label="canary",
        percent=10,
    ),
    "join_token": JoinToken(
        v=1,
        id="pi-kitchen",
        profile="raspberry-pi-4",
        brokers=("mqtts://broker.lan:8883",),
        password="a password",
        root="e30=",
        groups=("kitchen",),
        ca_pem="-----BEGIN CERTIFICATE-----\n",
        topic_root="edgeferry/v1",
    ),
    "infer_request": InferRequest(
        id="r1",
        inputs=(
            InputTensor(name="image", shape=(1, 2), datatype="FP32", data=Raw(b"[0.5,1.0]")),
            InputTensor(name="mask", shape=(2,), datatype="UINT8", parameters={"binary_data_size": 2}),
        ),
        outputs=(RequestedOutput(name="probabilities", parameters={"binary_data": True}),),
        parameters={"deadline_ms": NOW_MS},
    ),
    "infer_response": InferResponse(
        id="r1",
        model_name="digits",
        model_version="7",
        outputs=(
            OutputTensor(name="probabilities", shape=(1, 2), datatype="FP32", parameters={"binary_data_size": 8}),
            OutputTensor(name="label", shape=(1,), datatype="INT64", data=Raw(b"[1]")),
        ),
        parameters={"label": "stable"},
    ),
}

BLOCK = Block(transfer=9, sha256_prefix=bytes.fromhex(SHA256)[:8], index=130, data=b"the block's bytes")
DIFFERENCE = (
    bytes(range(100)) * 3,
    bytes(range(50)) + bytes(byte + 1 for byte in range(100)) + b"new",
    [Piece(Operation.COPY, 50, 100), Piece(Operation.ADD, 100), Piece(Operation.INSERT, 3)],
)
TENSORS = (
    TensorBytes(name="image", datatype="FP32", shape=(1, 2), data=b"\x00\x00\x00\x3f\x00\x00\x80\x3f"),
    TensorBytes(name="mask", datatype="UINT8", shape=(2,), data=b"\x01\x00"),
)
