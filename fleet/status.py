"""Wanted and running, device by device, and why they differ in a sentence. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from edgeferry.fleet.monitor.view import DeviceView, Liveness, told
from edgeferry.wire.desired import STABLE, Wish
from edgeferry.wire.messages import ModelState, Outcome, State

__all__ = ["ModelStatus", "status_of"]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model on one device.

    Attributes:
        wanted: Version that the signed documents name; 0 for none.
        running: Version that answers; 0 for none.
        why: Why they differ, or what else is worth knowing; empty when all is well.
    """

    device: str
    profile: str
    liveness: Liveness
    wanted: int
    running: int
    scheme: str
    phase: str
    why: str

    @property
    def agrees(self) -> bool:
        """Return whether the device runs what is wanted."""
        return self.wanted == self.running


def status_of(
    model: str, profile: str, wishes: Mapping[str, Wish], view: DeviceView, *, generation: int, now: float
) -> ModelStatus:
    """Return what is wanted of ``model`` on a device, what runs there, and why they differ.

    Args:
        model: Its name.
        profile: The device's, from the inventory.
        wishes: What the documents wish of the device, by model.
        view: What the device said last.
        generation: Of the published metadata.
        now: Of the clock of ``view``.
    """
    wanted = wishes[model].labels[STABLE] if model in wishes else 0
    reported = view.state.models.get(model) if view.state else None
    return ModelStatus(
        device=view.id,
        profile=profile,
        liveness=view.liveness(now),
        wanted=wanted,
        running=_running(reported),
        scheme=reported.scheme if reported else "",
        phase=reported.phase if reported else "",
        why=_why(wanted, reported, view, generation, now),
    )


def _running(reported: ModelState | None) -> int:
    if reported is None or reported.quarantined:
        return 0
    return reported.labels.get(STABLE, 0)


def _why(wanted: int, reported: ModelState | None, view: DeviceView, generation: int, now: float) -> str:
    if reported and reported.quarantined:
        return "quarantined: it crashed the serving process too often; push another version"
    if wanted == _running(reported):
        return ""
    if view.state is None:
        return "never heard from; is its agent running, and with the token of this fleet?"
    if reported and _has_failed(reported, wanted):
        return _ending(reported)
    return _delay(view, view.state, reported, generation, now)


def _has_failed(reported: ModelState, wanted: int) -> bool:
    last = reported.last
    if last is None or last.version != wanted or last.deployment != reported.deployment:
        return False
    return last.outcome in (Outcome.FAILED, Outcome.ROLLED_BACK)


def _ending(reported: ModelState) -> str:
    last = reported.last
    if last is None or last.problem is None:
        return "failed without a reason"
    return f"{last.outcome.replace('_', ' ')}: {told(last.problem)}; `push --retry` tries it again"


def _delay(view: DeviceView, state: State, reported: ModelState | None, generation: int, now: float) -> str:
    if view.liveness(now) is Liveness.OFFLINE:
        return "offline; it takes the wish when it is back"
    if state.metadata is not None:
        return f"refuses the metadata: {told(state.metadata)}"
    if state.generation < generation:
        return f"has not seen generation {generation} yet, is at {state.generation}"
    if reported and reported.transfer and reported.transfer.total_bytes:
        share = reported.transfer.done_bytes / reported.transfer.total_bytes
        return f"{reported.phase}, {share:.0%} of {reported.transfer.total_bytes / 1e6:.1f} MB"
    if state.waiting is not None:
        return f"waits: {told(state.waiting)}"
    return reported.phase if reported else "has not begun"
