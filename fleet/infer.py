"""Inference on a device over MQTT: an array in, arrays out, and how long it took.

Decides how samples become requests of the Open Inference Protocol (one sample each, binary) and how many are on their
way at a time. What a busy device refuses is asked again within its time-out; an answer that does not come in time is
a failure, and is counted.
"""

import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeferry.fleet.errors import FleetError, UsageError
from edgeferry.fleet.monitor.view import told
from edgeferry.fleet.operator import Operator, Received
from edgeferry.wire.codec import MAX_MESSAGE_BYTES, WireError, decode
from edgeferry.wire.desired import TensorSpec
from edgeferry.wire.messages import Reason, Response
from edgeferry.wire.tensors import TensorBytes, decode_response, encode_request, pack_mqtt, unpack_mqtt
from edgeferry.wire.topics import Topics

__all__ = ["GROUP", "Answer", "InferenceReport", "InferenceRun", "answer_from", "requests_from"]

MAX_HEADER_BYTES = 64 * 1024
GROUP = "group:"
_BUSY_PAUSE_S = 0.1  # a device's queue is that much shorter then
_DTYPES: Mapping[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}


def requests_from(x: np.ndarray, spec: TensorSpec) -> list[TensorBytes]:
    """Return one input tensor per sample of ``x``.

    Args:
        x: Samples along the first axis, each of the shape that ``spec`` has after its batch; or one sample.
        spec: The model's only input. Real numbers are sent as FP32 and quantized on the device where that is needed;
            an array of the model's own type is sent as it is.

    Raises:
        UsageError: Shape or type do not fit, or a value is not a number.
    """
    wanted = spec.shape[1:]
    if _fits(x.shape, wanted):
        x = x[np.newaxis]
    if x.ndim == 0 or not len(x) or not _fits(x.shape[1:], wanted):
        raise UsageError(f"input has shape {list(x.shape)}, wanted [n, {', '.join(str(size) for size in wanted)}]")
    datatype = _datatype(x, spec)
    samples = np.ascontiguousarray(x, dtype=_DTYPES[datatype])
    if samples.dtype.kind == "f" and not np.isfinite(samples).all():
        raise UsageError("input has values that are not finite numbers (NaN or infinity)")
    return [TensorBytes(spec.name, datatype, (1, *x.shape[1:]), sample.tobytes()) for sample in samples]


def _fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(shape) == len(wanted) and all(w in (-1, s) for s, w in zip(shape, wanted, strict=True))


def _datatype(x: np.ndarray, spec: TensorSpec) -> str:
    own = _DTYPES.get(spec.datatype)
    if own is not None and x.dtype == own:
        return spec.datatype
    if x.dtype.kind == "f" and (spec.scale or spec.datatype.startswith("FP")):
        return "FP32"
    raise UsageError(f"input holds {x.dtype}, wanted float32 or the model's own {spec.datatype}; convert it first")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request.

    Attributes:
        problem: Why there are no outputs; empty when there are.
        is_busy: True when the device would take the same request later.
    """

    request_id: str
    outputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    version: str = ""
    problem: str = ""
    is_busy: bool = False


def answer_from(payload: bytes, correlation: bytes) -> Answer:
    """Return the answer that ``payload`` spells.

    Raises:
        WireError: It is no answer to an inference request.
    """
    binary = unpack_mqtt(payload)
    if binary is None:
        response = decode(Response, payload)
        if response.error is None:
            raise WireError("inference: an answer without outputs and without an error")
        request_id = correlation.decode(errors="replace") or response.id
        is_busy = response.error.reason == Reason.BUSY
        return Answer(request_id, problem=told(response.error), is_busy=is_busy)
    header, tensors = decode_response(*binary, max_header_bytes=MAX_HEADER_BYTES)
    outputs = {tensor.name: _array(tensor) for tensor in tensors}
    return Answer(correlation.decode(errors="replace") or header.id, outputs, header.model_version)


def _array(tensor: TensorBytes) -> np.ndarray:
    if tensor.datatype not in _DTYPES:
        raise WireError(f"output {tensor.name!r} is {tensor.datatype}, which has no numpy type")
    return np.frombuffer(tensor.data, _DTYPES[tensor.datatype]).reshape(tensor.shape)


@dataclass(slots=True)
class InferenceReport:
    """What became of all requests.

    Attributes:
        answers: By number of the sample; failed ones are missing.
        latencies_ms: From first sending to receiving, of what was answered with outputs.
        problems: Why, by number of the sample, for the others.
    """

    samples: int
    answers: dict[int, Mapping[str, np.ndarray]] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    versions: set[str] = field(default_factory=set)
    elapsed_s: float = 0.0

    def outputs(self) -> dict[str, np.ndarray]:
        """Return the outputs of all samples, stacked along the first axis.

        Raises:
            FleetError: Some samples have no answer; the sentence says how many and why the first has none.
        """
        if self.problems:
            first = min(self.problems)
            why = f"sample {first}: {self.problems[first]}"
            raise FleetError(f"{len(self.problems)} of {self.samples} samples were not answered; {why}")
        ordered = [self.answers[number] for number in range(self.samples)]
        return {name: np.concatenate([outputs[name] for outputs in ordered]) for name in ordered[0]}

    def latency_ms(self, share: float) -> float:
        """Return the latency that ``share`` of the answers did not exceed (nearest rank); 0.0 without answers."""
        ranked = sorted(self.latencies_ms)
        return ranked[max(math.ceil(share * len(ranked)) - 1, 0)] if ranked else 0.0

    @property
    def per_s(self) -> float:
        """Return answers per second."""
        return len(self.answers) / self.elapsed_s if self.elapsed_s else 0.0


@dataclass(slots=True)
class _Question:
    """A request that has no answer yet; times are of the monotonic clock.

    Attributes:
        deadline: After which it has failed.
        again_at: When to send it again; infinite while an answer may come.
        refusal: What a busy device said last.
    """

    tensor: TensorBytes
    asked_at: float
    deadline: float
    again_at: float = math.inf
    refusal: str = ""


class InferenceRun:
    """Sends requests to one device and gathers the answers.

    Args:
        operator: Connected.
        topics: The fleet's topics.
        device: Who is asked; ``group:NAME`` for whichever device of a group the broker gives each request to.
        model: Its model.
        timeout_s: How long an answer may take.
        concurrency: How many requests may be on their way.
    """

    def __init__(
        self, operator: Operator, topics: Topics, device: str, model: str, *, timeout_s: float, concurrency: int
    ) -> None:
        self._operator = operator
        group = device.removeprefix(GROUP) if device.startswith(GROUP) else ""
        self._topic = topics.infer_group(group, model) if group else topics.infer(device, model)
        self._qos = 1 if group else 0
        self._reply_to = topics.response(group or device, operator.client_id)  # of a group, each device puts itself in
        self._answers = topics.response("+" if group else device, operator.client_id)
        self._timeout_s = timeout_s
        self._concurrency = concurrency
        self._run_id = secrets.token_hex(4)
        self._questions: dict[int, _Question] = {}

    def run(
        self, tensors: Sequence[TensorBytes], on_progress: Callable[[int], None] = lambda _: None
    ) -> InferenceReport:
        """Ask for every tensor in ``tensors`` and return what came back.

        Args:
            tensors: One per request.
            on_progress: Called with the number of requests that are done.
        """
        self._operator.subscribe(self._answers)
        report = InferenceReport(len(tensors))
        waiting = deque(enumerate(tensors))
        began = time.monotonic()
        while waiting or self._questions:
            while waiting and len(self._questions) < self._concurrency:
                self._ask(*waiting.popleft())
            self._ask_again()
            self._gather(report)
            on_progress(len(tensors) - len(waiting) - len(self._questions))
        report.elapsed_s = time.monotonic() - began
        return report

    def _ask(self, number: int, tensor: TensorBytes) -> None:
        asked_at = time.monotonic()
        self._questions[number] = _Question(tensor, asked_at, asked_at + self._timeout_s)
        self._send(number, tensor, self._timeout_s)

    def _ask_again(self) -> None:
        """Send again what a busy device has refused a moment ago."""
        now = time.monotonic()
        for number, question in self._questions.items():
            if question.again_at <= now < question.deadline:
                question.again_at = math.inf
                self._send(number, question.tensor, question.deadline - now)

    def _send(self, number: int, tensor: TensorBytes, left_s: float) -> None:
        request_id = f"{self._run_id}-{number}"
        in_body = {} if self._operator.speaks_mqtt5 else self._parameters(request_id, left_s)
        payload = pack_mqtt(*encode_request([tensor], request_id=request_id, parameters=in_body))
        self._operator.publish(
            self._topic,
            payload,
            qos=self._qos,
            response_topic=self._reply_to,
            correlation=request_id.encode(),
            expiry_s=math.ceil(left_s),
        )

    def _parameters(self, request_id: str, left_s: float) -> dict[str, str | int]:
        deadline_ms = int((time.time() + left_s) * 1000)
        return {"reply_to": self._reply_to, "id": request_id, "deadline_ms": deadline_ms}

    def _gather(self, report: InferenceReport) -> None:
        """Wait for the next answer, or until a request is overdue or to be sent again."""
        until = min(min(question.deadline, question.again_at) for question in self._questions.values())
        message = self._operator.receive(until - time.monotonic())
        if isinstance(message, Received) and message.topic.endswith(f"/res/{self._operator.client_id}"):
            self._take(message, report)
        now = time.monotonic()
        for number in [number for number, question in self._questions.items() if question.deadline <= now]:
            question = self._questions.pop(number)
            refusal = f" but {question.refusal}" if question.refusal else ""
            report.problems[number] = f"no answer within {self._timeout_s:g} s{refusal}"

    def _take(self, message: Received, report: InferenceReport) -> None:
        try:
            answer = answer_from(message.payload, message.correlation)
        except WireError as err:
            raise FleetError(f"the device answered with something else: {err}") from err
        run_id, _, number = answer.request_id.rpartition("-")
        if run_id != self._run_id or not number.isdecimal() or int(number) not in self._questions:
            return  # too late, or of another run
        question = self._questions[int(number)]
        if answer.is_busy:
            question.refusal, question.again_at = answer.problem, time.monotonic() + _BUSY_PAUSE_S
            return
        del self._questions[int(number)]
        if answer.problem:
            report.problems[int(number)] = answer.problem
            return
        report.answers[int(number)] = answer.outputs
        report.versions.add(answer.version)
        report.latencies_ms.append((message.received_at - question.asked_at) * 1000)


def refuse_what_is_too_large(tensor: TensorBytes, limit_bytes: int) -> None:
    """Do nothing when a request with ``tensor`` fits into a message.

    Raises:
        UsageError: It does not.
    """
    limit_bytes = limit_bytes or MAX_MESSAGE_BYTES
    if len(tensor.data) + MAX_HEADER_BYTES // 16 > limit_bytes:
        raise UsageError(
            f"one sample takes {len(tensor.data)} bytes, the device takes messages of {limit_bytes}; use its REST "
            "endpoint (see `edgeferry devices --json`), or send the model's own type instead of float32"
        )
