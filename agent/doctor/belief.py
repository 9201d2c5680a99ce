"""Whether the metadata that was kept can be believed, is fresh, and has a model for this device."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edgeferry.agent.doctor.finding import Finding, fine, problem, warning
from edgeferry.agent.trust import Resolved, TrustClient, TrustError
from edgeferry.wire.desired import BlobRef

__all__ = ["Belief", "believe", "examine_trust"]


@dataclass(frozen=True, slots=True)
class Belief:
    """What a device's kept metadata says.

    Attributes:
        resolved: What it was told last; None when it has not heard anything whole yet.
        issued_ms: When the newest verified timestamp was signed; 0 for none.
        damage: What cannot be believed any more.
        refusal: Why nothing can be believed at all; empty when it can.
    """

    resolved: Resolved | None
    issued_ms: int
    damage: tuple[str, ...] = ()
    refusal: str = ""


def believe(
    files: Mapping[str, bytes],
    blob: Callable[[BlobRef], bytes | None],
    *,
    device: str,
    profile: str,
    root: bytes,
    now_ms: int,
) -> Belief:
    """Return what ``files`` say, verified from ``root`` on; they are left as they are."""
    with tempfile.TemporaryDirectory(prefix="edgeferry-doctor-") as folder:
        try:
            client = TrustClient(
                device=device, profile=profile, files=files, bootstrap_root=root, work_dir=Path(folder, "tuf")
            )
        except TrustError as err:
            return Belief(None, 0, refusal=str(err))
        resolved = client.resolve_trusted(blob, now_ms)
        return Belief(resolved, client.issued_ms, tuple(found.detail for found in client.damage.values()))


def examine_trust(belief: Belief) -> Iterator[Finding]:
    """Yield what stands between this device and the models that are wished for it."""
    if belief.refusal:
        yield problem("trust", f"the root that this device joined with cannot be used: {belief.refusal}", _JOIN_AGAIN)
        return
    for damage in belief.damage:
        yield warning("trust", damage, "the agent fetches it again; if this comes back, replace the card")
    if belief.resolved is None:
        yield warning("trust", "nothing signed has arrived yet", _LET_IT_BE_SAID)
        return
    yield _freshness(belief.resolved)
    for model, (_, refusal) in belief.resolved.refusals.items():
        yield problem("trust", f"{model}: {refusal.detail}", "convert the model for this profile and push it")


_JOIN_AGAIN = "let this device join again: `edgeferry token ID --renew`, and here `edgeferry-agent init --force`"
_LET_IT_BE_SAID = "keep `edgeferry origin` running on the workstation, or push something, with a broker that both reach"


def _freshness(resolved: Resolved) -> Finding:
    until = f"{datetime.fromtimestamp(resolved.expires_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
    if resolved.metadata:
        advice = f"{_LET_IT_BE_SAID}; what is installed goes on serving"
        return problem("trust", f"the metadata has expired on {until}; nothing new is installed", advice)
    return fine("trust", f"generation {resolved.generation}, root {resolved.root_version}, believed until {until}")
