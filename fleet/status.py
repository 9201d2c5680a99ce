"""Wanted and running, device by device, and why they differ in a sentence. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from edgeferry.fleet.monitor.view import DeviceView, Liveness, told
from edgeferry.wire.desired import STABLE, Wish
from edgeferry.wire.messages import LabelState, LabelTelemetry, ModelState, Outcome, State, Swap

__all__ = ["ModelStatus", "statuses_of"]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One label of one model on one device.

    Attributes:
        wanted: Version that the signed documents name; 0 for none.
        running: Version that answers; 0 for none.
        why: Why they differ, or what else is worth knowing; empty when all is well.
        percent: Share of the requests that it answers instead of ``stable``.
        figures: How it does, where there is something to compare it with.
    """

    device: str
    profile: str
    liveness: Liveness
    label: str
    wanted: int
    running: int
    scheme: str
    phase: str
    why: str
    percent: int = 0
    figures: LabelTelemetry | None = None

    @property
    def agrees(self) -> bool:
        """Return whether the device runs what is wanted."""
        return self.wanted == self.running

    @property
    def error_share(self) -> float | None:
        """Return the share of its requests that failed, 0 to 1; None where none is known."""
        return self.figures.errors_total / self.figures.total if self.figures and self.figures.total else None


def statuses_of(
    model: str, profile: str, wishes: Mapping[str, Wish], view: DeviceView, *, generation: int, now: float
) -> list[ModelStatus]:
    """Return what is wanted of ``model`` on a device, what runs there, and why they differ, label by label.

    Args:
        model: Its name.
        profile: The device's, from the inventory.
        wishes: What the documents wish of the device, by model.
        view: What the device said last.
        generation: Of the published metadata.
        now: Of the clock of ``view``.
    """
    wish = wishes.get(model)
    reported = view.state.models.get(model) if view.state else None
    known = [*(wish.labels if wish else ()), *(reported.others if reported else ())]
    labels = [STABLE, *sorted(set(known) - {STABLE})]
    return [_status_of(label, profile, wish, reported, view, generation=generation, now=now) for label in labels]


def _status_of(
    label: str,
    profile: str,
    wish: Wish | None,
    reported: ModelState | None,
    view: DeviceView,
    *,
    generation: int,
    now: float,
) -> ModelStatus:
    wanted = wish.labels.get(label, 0) if wish else 0
    state = reported.of(label) if reported else None
    running = reported.labels.get(label, 0) if reported and state and not state.quarantined else 0
    return ModelStatus(
        device=view.id,
        profile=profile,
        liveness=view.liveness(now),
        label=label,
        wanted=wanted,
        running=running,
        scheme=state.scheme if state else "",
        phase=state.phase if state else "",
        why=_why(wanted, running, state, view, generation=generation, now=now),
        percent=state.percent if state else 0,
        figures=state.figures if state else None,
    )


def _why(
    wanted: int, running: int, reported: LabelState | None, view: DeviceView, *, generation: int, now: float
) -> str:
    if reported and reported.quarantined:
        return "quarantined: it crashed the serving process too often; push another version"
    if wanted == running:
        return _manner(reported, running)
    if view.state is None:
        return "never heard from; is its agent running, and with the token of this fleet?"
    if reported and _has_failed(reported, wanted):
        return _ending(reported)
    return _delay(view, view.state, reported, generation, now)


def _manner(reported: LabelState | None, running: int) -> str:
    """Return what is worth knowing of how the running version took over: that there was no room for two."""
    last = reported.last if reported else None
    if last is None or last.version != running or last.swap is not Swap.STOP_FIRST:
        return ""
    return f"the version before was stopped first; nobody answered for {last.gap_ms / 1000:.1f} s"


def _has_failed(reported: LabelState, wanted: int) -> bool:
    last = reported.last
    if last is None or last.version != wanted or last.deployment != reported.deployment:
        return False
    return last.outcome in (Outcome.FAILED, Outcome.ROLLED_BACK)


def _ending(reported: LabelState) -> str:
    last = reported.last
    if last is None or last.problem is None:
        return "failed without a reason"
    return f"{last.outcome.replace('_', ' ')}: {told(last.problem)}; `push --retry` tries it again"


def _delay(view: DeviceView, state: State, reported: LabelState | None, generation: int, now: float) -> str:
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
