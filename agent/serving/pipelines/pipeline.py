"""One pipeline: waits for its model, starts its source, and takes one sample after the other to the model and the sink.

no model --(it is loaded)--> running --(the model is gone, or takes another input)--> no model
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from edgeferry.agent.pipeline_config import PipelineConfig
from edgeferry.agent.serving.pipelines.answers import answer_line
from edgeferry.agent.serving.pipelines.facts import FactsError, ModelFacts, learn
from edgeferry.agent.serving.pipelines.inputs import InputError, Preparer, make_preparer
from edgeferry.agent.serving.pipelines.intake import Gate, Intake
from edgeferry.agent.serving.pipelines.sinks import Sink, SinkError
from edgeferry.agent.serving.pipelines.slot import Sample, Slot
from edgeferry.agent.serving.pipelines.sources import Source
from edgeferry.agent.serving_client import ServingClient, ServingError
from edgeferry.wire.codec import WireError
from edgeferry.wire.messages import Code, PipelineTelemetry
from edgeferry.wire.tensors import TensorBytes, decode_response, encode_request

__all__ = ["Pipeline", "SourceMaker"]

logger = logging.getLogger(__name__)

TAKE_S = 0.5
ASK_AGAIN_S = 1.0
QUIET_S = 60.0  # the same complaint is not written into the log more often
MAX_HEADER_BYTES = 1 << 20
LATENCIES = 256  # of the newest answers, for the quantile

SourceMaker = Callable[[Preparer, Intake, Callable[[str], None]], Source]


@dataclass(slots=True)
class _Counts:
    answered: int = 0
    failed: int = 0
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))
    last_error: str = ""


class Pipeline:
    """Runs in a thread of its own, from ``start`` to ``stop``.

    Args:
        config: What it does.
        client: The serving process.
        make_source: Makes the source when the model, and so the shape of a sample, is known.
        sink: Where answers go.
        now_ms: Tells the unix time.
    """

    def __init__(
        self,
        config: PipelineConfig,
        client: ServingClient,
        make_source: SourceMaker,
        sink: Sink,
        *,
        now_ms: Callable[[], int],
    ) -> None:
        self._config = config
        self._client = client
        self._make_source = make_source
        self._sink = sink
        self._now_ms = now_ms
        self._slot = Slot(config.buffer)
        self._intake = Intake(self._slot, Gate(config.max_rate_hz), now_ms=now_ms)
        self._counts = _Counts()
        self._complained: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"pipeline {config.name}", daemon=True)

    @property
    def name(self) -> str:
        """Return the pipeline's name."""
        return self._config.name

    @property
    def is_alive(self) -> bool:
        """Whether its thread lives."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End; an answer that is on its way gets there if it takes no longer than ``timeout_s``."""
        self._stopping.set()
        self._slot.close()
        self._thread.join(timeout_s)

    def figures(self) -> PipelineTelemetry:
        """Return what has happened since the start."""
        latencies = sorted(self._counts.latencies_ms)
        return PipelineTelemetry(
            model=self._config.model_name,
            taken_total=self._slot.taken,
            answered_total=self._counts.answered,
            dropped_total=self._slot.dropped,
            left_out_total=self._intake.left_out,
            errors_total=self._counts.failed,
            p50_ms=_quantile(latencies, 0.50),
            p95_ms=_quantile(latencies, 0.95),
            last_error=self._counts.last_error,
        )

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                facts = self._await_model()
                if facts:
                    self._work(facts)
        finally:
            self._sink.close()
            self._client.close()

    def _await_model(self) -> ModelFacts | None:
        """Return what the model takes, as soon as it is loaded; None when the wait was in vain or is over."""
        try:
            facts = learn(self._client, self._config.model_name, self._config.model_version)
            make_preparer(self._config.source, facts)
        except ServingError as err:
            if err.code is not Code.NOT_FOUND:
                self._complain(f"waits for the serving process: {err.detail}")
        except (FactsError, InputError) as err:
            self._complain(str(err))
        else:
            return facts
        self._stopping.wait(ASK_AGAIN_S)
        return None

    def _work(self, facts: ModelFacts) -> None:
        """Take samples to the model until it takes another input, is gone, or all is over."""
        preparer = make_preparer(self._config.source, facts)
        source = self._make_source(preparer, self._intake, self._complain)
        source.start()
        logger.info("pipeline %s runs %s", self.name, self._config.model)
        known: ModelFacts | None = facts
        try:
            while known and not self._stopping.is_set():
                sample = self._slot.take(TAKE_S)
                known = self._answer(sample, known, preparer) if sample else known
        finally:
            source.stop()

    def _answer(self, sample: Sample, facts: ModelFacts, preparer: Preparer) -> ModelFacts | None:
        """Take one sample the whole way; return what is known of the model then, None when it has to be asked anew."""
        began_s = time.monotonic()
        try:
            version, outputs = self._ask(preparer.prepare(sample.data), facts)
            if version != facts.version:  # a new one has taken over; it may mean something else
                return self._known_still(facts)
            self._sink.put(self._line(sample, facts, outputs))
        except (InputError, SinkError) as err:
            self._failed(str(err))
            return facts
        except (ServingError, WireError) as err:
            self._failed(str(err))
            return self._known_still(facts)
        self._counts.answered += 1
        self._counts.latencies_ms.append((time.monotonic() - began_s) * 1e3)
        return facts

    def _line(self, sample: Sample, facts: ModelFacts, outputs: list[TensorBytes]) -> bytes:
        return answer_line(
            self.name,
            self._config.model_name,
            facts.version,
            sample,
            outputs,
            labels=facts.labels,
            top=self._config.top,
            latency_ms=max(0, self._now_ms() - sample.taken_ms),
        )

    def _ask(self, array: np.ndarray, facts: ModelFacts) -> tuple[str, list[TensorBytes]]:
        datatype = "FP32" if array.dtype == np.float32 else facts.datatype
        data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        body, header_bytes = encode_request([TensorBytes(facts.input_name, datatype, array.shape, data)])
        config = self._config
        status, answer, answer_header_bytes = self._client.infer(
            config.model_name, config.model_version, body, header_bytes, float(config.timeout_s)
        )
        if status != 200 or answer_header_bytes is None:
            raise WireError(f"{config.model} did not answer: {bytes(answer[:300]).decode(errors='replace')}")
        response, outputs = decode_response(answer, answer_header_bytes, max_header_bytes=MAX_HEADER_BYTES)
        return response.model_version, outputs

    def _known_still(self, facts: ModelFacts) -> ModelFacts | None:
        """Return what is known of the model now, or None when a source for ``facts`` does not fit it any more."""
        try:
            now = learn(self._client, self._config.model_name, self._config.model_version)
        except (ServingError, FactsError):
            return None
        return now if now.is_fed_like(facts) else None

    def _failed(self, why: str) -> None:
        self._counts.failed += 1
        self._complain(why)

    def _complain(self, why: str) -> None:
        self._counts.last_error = why[:300]
        now_s = time.monotonic()
        if now_s - self._complained.get(why, float("-inf")) < QUIET_S:
            return
        self._complained = {said: at_s for said, at_s in self._complained.items() if now_s - at_s < QUIET_S}
        self._complained[why] = now_s
        logger.warning("pipeline %s: %s", self.name, why)


def _quantile(ascending: list[float], share: float) -> float | None:
    if not ascending:
        return None
    return round(ascending[min(int(share * len(ascending)), len(ascending) - 1)], 1)
