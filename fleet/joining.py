"""How a device joins: its token, and the broker that lets it in. What `token` and `enroll` have in common."""

import base64

from edgeferry.fleet.errors import UsageError
from edgeferry.fleet.inventory import Device, Inventory
from edgeferry.fleet.mosquitto.admission import wait_until_let_in
from edgeferry.fleet.mosquitto.folder import MosquittoFolder
from edgeferry.fleet.operator import BrokerError, Login
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.session import Session
from edgeferry.fleet.settings import BrokerUrl, parse_broker_url
from edgeferry.wire.joining import JoinToken

__all__ = ["join_token", "let_in", "refuse_other_users"]


def refuse_other_users(session: Session, inventory: Inventory, device: str) -> None:
    """Do nothing unless ``device`` is the user name of somebody else, whose password its token would hand out.

    Raises:
        UsageError: It is the operator's, or that of a user who is no device.
    """
    if device == session.settings().operator:
        raise UsageError(f"{device!r} is the operator of this fleet, not a device; choose another id")
    if device not in inventory.devices and device in session.passwords().load():
        raise UsageError(
            f"{device!r} is a user at the broker already, but not a device of this fleet; choose another id, or remove "
            "it from secrets/passwords.json first"
        )


def join_token(session: Session, repository: Repository, device: Device, password: str) -> JoinToken:
    """Return what ``device`` joins with."""
    settings = session.settings()
    roots = repository.roots()
    return JoinToken(
        v=1,
        id=device.id,
        profile=device.profile,
        brokers=settings.device_brokers or (settings.broker,),
        password=password,
        root=base64.b64encode(roots[max(roots)]).decode(),
        groups=device.groups,
        ca_pem=session.passwords().ca_pem(),
        topic_root=settings.topic_root,
    )


def let_in(session: Session, repository: Repository, device: str, password: str) -> str:
    """Have the fleet's mosquitto let ``device`` in; return a sentence about what is left to do."""
    folder = MosquittoFolder(session.fleet_dir)
    setup = folder.setup()
    if setup is None:
        return (
            f"`edgeferry broker run` lets {device} in; a broker of your own needs its password, secrets/passwords.json"
        )
    if not folder.let_in(repository.inventory.devices):
        return f"copy {folder.path} to the broker's host and run its install.sh there, so that {device} is let in"
    people = parse_broker_url(session.settings().broker)
    url = BrokerUrl("mqtts", people.host, setup.settings.device_port)
    try:
        wait_until_let_in(url, Login(device, password, session.passwords().ca_pem()))
    except BrokerError as err:
        return f"the broker does not let {device} in yet ({err}); `sudo systemctl reload mosquitto`"
    return f"the broker lets {device} in"
