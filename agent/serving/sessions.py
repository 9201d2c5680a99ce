"""The states of a stateful model: one for everybody, and one for each sequence that a client has begun.

A sequence has an interpreter of its own on the same mapped file. The last ones used are kept; a client whose sequence
has made room is told to begin again. Source: triton-inference-server/server, docs/protocol/extension_sequence.md.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edgeferry.agent.serving.errors import RequestError
from edgeferry.inference.model import Model, RunTimes
from edgeferry.wire.messages import Code, Reason

__all__ = ["ALONE", "MAX_SEQUENCES", "Sessions", "Turn", "turn_of"]

MAX_SEQUENCES = 8  # each takes the memory of the model's tensors


@dataclass(frozen=True, slots=True)
class Turn:
    """Which state a run goes on with.

    Attributes:
        sequence: Its name; empty for the state that is everybody's.
        is_first: Whether the state is forgotten before the run.
        is_last: Whether it is given up after the run.
    """

    sequence: str = ""
    is_first: bool = False
    is_last: bool = False


ALONE = Turn()


def turn_of(parameters: Mapping[str, Any]) -> Turn:
    """Return what a request's parameters say of sequences.

    Raises:
        RequestError: The sequence's id is neither a number nor text.
    """
    name = parameters.get("sequence_id", 0)
    if type(name) not in {int, str} or len(str(name)) > 128:
        raise RequestError.bad(f"sequence_id is {str(name)[:40]}, wanted a number or a text of at most 128 characters")
    return Turn(str(name or ""), bool(parameters.get("sequence_start")), bool(parameters.get("sequence_end")))


class Sessions:
    """All states of one loaded version; its queue's thread alone uses them.

    Attributes:
        last_run: Where the time of the last run went.
    """

    def __init__(self, model: Model, open_another: Callable[[], Model]) -> None:
        """Store the parts.

        Args:
            model: Has the state that is everybody's.
            open_another: Loads the same model again.
        """
        self._model = model
        self._open_another = open_another
        self._sequences: OrderedDict[str, Model] = OrderedDict()
        self.last_run = RunTimes()

    def run(self, inputs: Mapping[str, NDArray[Any]], turn: Turn) -> dict[str, NDArray[Any]]:
        """Return the outputs, and go on with the state that ``turn`` names.

        Raises:
            RequestError: The sequence has not begun, or was dropped.
            ModelError: The runtime failed, or the inputs are not what the model takes.
        """
        model = self._chosen(turn)
        if turn.is_first:
            model.reset()
        try:
            return model.run(inputs)
        finally:
            self.last_run = model.last_run
            if turn.is_last:
                self._sequences.pop(turn.sequence, None)

    def _chosen(self, turn: Turn) -> Model:
        if not turn.sequence:
            return self._model
        found = self._sequences.pop(turn.sequence, None)
        if found is None and not turn.is_first:
            detail = (
                f"sequence {turn.sequence[:64]!r} has not begun, or made room for one of {MAX_SEQUENCES} newer ones; "
                "begin it with sequence_start"
            )
            raise RequestError(Code.FAILED_PRECONDITION, Reason.BAD_REQUEST, detail)
        if found is None and len(self._sequences) >= MAX_SEQUENCES:
            self._sequences.popitem(last=False)
        model = found or self._open_another()
        self._sequences[turn.sequence] = model  # the last one is the one that was used last
        return model
