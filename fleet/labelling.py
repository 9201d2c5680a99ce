"""What devices shall run when a version is to be stable, or a canary beside what is.

Decides what becomes of the other labels: another stable version withdraws the canary, and ``previous`` stays only where
that is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeferry.fleet.documents import Canary
from edgeferry.fleet.errors import UsageError
from edgeferry.fleet.inventory import Device
from edgeferry.fleet.repository import Repository
from edgeferry.wire.desired import CANARY, PREVIOUS, STABLE

__all__ = ["Wanted", "as_canary", "as_stable", "canaries_of", "wish_for_each"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a device shall run of a model.

    Attributes:
        version: What answers.
        canary: What answers a share of the requests beside it.
        previous: A version that stays loaded; 0 for none.
        retry: Whether what has failed before is tried again.
    """

    version: int
    canary: Canary | None = None
    previous: int = 0
    retry: bool = False


def as_stable(
    repository: Repository,
    versions: Mapping[str, int],
    model: str,
    *,
    keeps_previous: bool = False,
    retry: bool = False,
) -> dict[str, Wanted]:
    """Return what devices shall run so that ``versions`` of ``model`` answer, by device; a canary is withdrawn.

    Args:
        repository: Knows what they are wished to run now.
        versions: By device.
        model: Its name.
        keeps_previous: Whether what answers now stays loaded.
        retry: Whether what has failed before is tried again.
    """
    wanted = {}
    for device, version in versions.items():
        labels = _labels(repository, device, model)
        now = labels.get(STABLE, version)
        kept = now if keeps_previous else 0
        wanted[device] = Wanted(version, previous=labels.get(PREVIOUS, 0) if now == version else kept, retry=retry)
    return wanted


def as_canary(
    repository: Repository, devices: Sequence[Device], model: str, canary: Canary, *, retry: bool = False
) -> dict[str, Wanted]:
    """Return what ``devices`` shall run so that ``canary`` answers its share beside what answers now, by device.

    Raises:
        UsageError: A device is wished to run no version of ``model``, or this very one already.
    """
    wanted = {}
    for device in devices:
        labels = _labels(repository, device.id, model)
        if STABLE not in labels:
            raise UsageError(f"{device.id} runs no version of {model!r} for a canary to stand beside; push one first")
        if labels[STABLE] == canary.version:
            raise UsageError(f"{model} {canary.version} is stable on {device.id}, so it cannot be the canary there")
        wanted[device.id] = Wanted(labels[STABLE], canary, labels.get(PREVIOUS, 0), retry)
    return wanted


def canaries_of(repository: Repository, devices: Sequence[Device], model: str) -> dict[str, int]:
    """Return the canary of ``model`` that each of ``devices`` is wished to run; those without one are left out."""
    labels = {device.id: _labels(repository, device.id, model) for device in devices}
    return {device: found[CANARY] for device, found in labels.items() if CANARY in found}


def wish_for_each(repository: Repository, wanted: Mapping[str, Wanted], model: str, to: str) -> None:
    """Wish the same for the whole scope ``to`` where all devices shall have it, else what each of them shall have.

    Args:
        repository: Takes the wishes.
        wanted: By device.
        model: Its name.
        to: The scope of all devices in ``wanted``; empty when some within the scope stay as they are.
    """
    everybody_alike = to and len(set(wanted.values())) == 1
    for scope, one in [(to, next(iter(wanted.values())))] if everybody_alike else wanted.items():
        repository.wish(model, one.version, scope, canary=one.canary, previous=one.previous, retry=one.retry)


def _labels(repository: Repository, device: str, model: str) -> Mapping[str, int]:
    wish = repository.wishes_of(device).get(model)
    return wish.labels if wish else {}
