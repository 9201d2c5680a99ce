"""Publishing a wish and staying until the devices have done it: the driver behind `push` and `rollback`.

Decides the order: sign, serve, ring the doorbell, follow. Whoever signs also serves the blobs until the devices are
done; after a reconnect the metadata is said again, because a broker may have forgotten it.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from edgeferry.fleet.blockserver import BlockServer
from edgeferry.fleet.conflicts import refuse_if_behind
from edgeferry.fleet.errors import FleetError, PendingError
from edgeferry.fleet.operator import Connected
from edgeferry.fleet.push import Progress, Standing, Target, progress_of
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.watch import FleetWatch

__all__ = ["Delivery", "deliver", "raise_unless_done"]

_LOOK_S = 0.5

Show = Callable[[Mapping[str, Progress]], None]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is to be delivered, and for how long somebody stays.

    Attributes:
        timeout_s: How long a device may take.
        waits_for_offline: True to stay until devices that are offline have come and got it, too.
    """

    targets: tuple[Target, ...]
    timeout_s: float
    waits_for_offline: bool = False


def deliver(
    delivery: Delivery, repository: Repository, watch: FleetWatch, server: BlockServer, show: Show
) -> dict[str, Progress]:
    """Ring the doorbell and return how far each device got; ends when all are done, or at the time-out.

    Args:
        delivery: What to deliver.
        repository: Signed and published already.
        watch: Connected, and what is retained is collected.
        server: Serving.
        show: Called with every change.

    Raises:
        ConflictError: Another copy of this fleet folder has published in the meantime.
        FleetError: The broker did not take the metadata, or nobody serves any more.
    """
    began_at = time.monotonic()
    timestamp = repository.timestamp()
    watch.ring(repository.roots(), timestamp)
    progress = _look(delivery.targets, watch, began_at)
    show(progress)
    while _goes_on(delivery, progress, began_at):
        if isinstance(watch.follow(_LOOK_S), Connected):
            watch.say(repository.roots(), repository.timestamp())
        if watch.said.timestamp != timestamp:
            refuse_if_behind(repository, watch.said)
            timestamp = watch.said.timestamp
        if not server.is_serving:
            raise FleetError("the block server of this push has ended; run the same push again, it continues")
        latest = _look(delivery.targets, watch, began_at)
        if latest != progress:
            show(latest)
        progress = latest
    return {device: _at_the_end(one, delivery.timeout_s) for device, one in progress.items()}


def raise_unless_done(progress: Mapping[str, Progress]) -> None:
    """Do nothing when every device is active.

    Raises:
        FleetError: One has failed; the sentence says which and why.
        PendingError: None has failed, but some are offline.
    """
    failed = [f"{device}: {one.reason}" for device, one in progress.items() if one.standing is Standing.FAILED]
    if failed:
        raise FleetError(f"not active on {len(failed)} of {len(progress)} devices: {_first(failed)}")
    pending = [device for device, one in progress.items() if one.standing is Standing.PENDING]
    if pending:
        raise PendingError(
            f"{len(pending)} of {len(progress)} devices are offline: {_first(pending)}; they take it when they are "
            "back and an origin serves: keep `edgeferry origin` running, or push with --watch"
        )


def _look(targets: Iterable[Target], watch: FleetWatch, began_at: float) -> dict[str, Progress]:
    now = time.monotonic()
    return {
        target.device: progress_of(target, watch.view.get(target.device), now=now, began_at=began_at)
        for target in targets
    }


def _goes_on(delivery: Delivery, progress: Mapping[str, Progress], began_at: float) -> bool:
    if time.monotonic() - began_at >= delivery.timeout_s:
        return False
    if delivery.waits_for_offline and any(one.standing is Standing.PENDING for one in progress.values()):
        return True
    return not all(one.is_final for one in progress.values())


def _at_the_end(progress: Progress, timeout_s: float) -> Progress:
    if progress.is_final:
        return progress
    why = f": {progress.reason}" if progress.reason else ""
    return Progress(Standing.FAILED, progress.phase, reason=f"still {progress.phase} after {timeout_s:.0f} s{why}")


def _first(items: list[str]) -> str:
    return "; ".join(items[:5]) + (f"; and {len(items) - 5} more" if len(items) > 5 else "")
