"""What several commands do after they have signed: say it to the devices, and say what they found to the person."""

from datetime import datetime

from edgeferry.fleet.conflicts import newest_roots, refuse_if_behind, refuse_other_roots
from edgeferry.fleet.errors import FleetError
from edgeferry.fleet.operator import BrokerError
from edgeferry.fleet.rendering import hint
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.session import Session

__all__ = ["refuse_changed_elsewhere", "tell_the_fleet", "warn_of_expiry"]


def tell_the_fleet(session: Session, repository: Repository) -> None:
    """Say what is published; a broker that is not there is no obstacle, it is said at the next occasion."""
    try:
        with session.watch() as watch:
            watch.say(repository.roots(), repository.timestamp())
    except (BrokerError, FleetError) as err:
        hint(f"not said to the broker yet: {err}. The next `push`, `origin` or `broker run` says it.")


def refuse_changed_elsewhere(session: Session, repository: Repository, *, only_roots: bool = False) -> None:
    """Do nothing unless another copy of this fleet folder has published since; without a broker, nobody can tell.

    Args:
        session: Whose broker is asked.
        repository: Of this copy.
        only_roots: Leave timestamps aside: whoever changes keys may be about to take them from a thief.

    Raises:
        ConflictError: It has.
    """
    try:
        with session.watch() as watch:
            said = watch.hear(newest_roots(repository))
    except BrokerError as err:
        hint(f"not compared with what is published: {err}")
        return
    if only_roots:
        refuse_other_roots(repository, said.roots)
    else:
        refuse_if_behind(repository, said)


def warn_of_expiry(repository: Repository, now: datetime) -> None:
    """Tell the person which metadata should be renewed, and could not be by itself."""
    for role, expires in repository.overdue(now).items():
        hint(f"{role} metadata expires on {expires:%Y-%m-%d}, and its key is not at hand: run `edgeferry keys renew`")
