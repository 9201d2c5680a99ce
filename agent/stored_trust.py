"""The trust client with the store behind it: what is believed is saved before it is told."""

from pathlib import Path

from edgeferry.agent import memory
from edgeferry.agent.clock import is_synchronised, now_ms, trusted_now_ms
from edgeferry.agent.config import AgentConfig
from edgeferry.agent.store import Store
from edgeferry.agent.trust import Missing, Resolved, TrustClient, TrustError
from edgeferry.wire.messages import Problem

__all__ = ["StoredTrust"]


class StoredTrust:
    """Looks at metadata; lives in the lane ``trust`` after the start."""

    def __init__(self, config: AgentConfig, store: Store, root: bytes, work_dir: Path) -> None:
        self._store = store
        self._client = TrustClient(
            device=config.id,
            profile=config.profile.name,
            files=store.load_metadata(),
            bootstrap_root=root,
            work_dir=work_dir,
        )

    def remembered(self) -> Resolved | None:
        """Return what was believed before the last stop."""
        return self._client.resolve_trusted(self._store.read_blob, self._now_ms())

    @property
    def damage(self) -> list[Problem]:
        """What was wrong with the files that were kept."""
        return list(self._client.damage.values())

    def look(self, roots: dict[int, bytes], timestamp: bytes, *, final: bool) -> Resolved | Missing:
        """Return what the metadata says or what it lacks; what is believed now is saved before it is told.

        Raises:
            TrustError: It is refused.
            StoreError: It cannot be saved.
        """
        try:
            return self._client.refresh(
                roots=roots, timestamp=timestamp, blob=self._store.read_blob, now_ms=self._now_ms(), final=final
            )
        except TrustError as err:
            if err.blob is not None:
                self._store.drop_blob(err.blob.sha256)
            raise
        finally:  # roots and timestamps that were verified are kept even when something behind them was refused
            self._store.save_metadata(self._client.files())
            memory.give_back()

    def _now_ms(self) -> int:
        return trusted_now_ms(now_ms(), self._client.issued_ms, synchronised=is_synchronised())
