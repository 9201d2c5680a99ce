"""`edgeferry keys`: who may sign for this fleet. The subcommands stand in the modules beside this one."""

from datetime import datetime
from pathlib import Path

import click

from edgeferry.fleet.commands.keys_backup import backup, restore
from edgeferry.fleet.commands.keys_changes import add, finish, revoke, rotate
from edgeferry.fleet.commands.keys_holders import discard, export, import_, new, sign
from edgeferry.fleet.errors import EXIT_DONE, EXIT_FAILED, UsageError
from edgeferry.fleet.keys import LOCKABLE, KeyFile, KeyRole
from edgeferry.fleet.passphrase import Passphrase
from edgeferry.fleet.rekeying import Rekeying
from edgeferry.fleet.rendering import hint, print_json, print_table
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.session import Session, fleet_command, now, signs

__all__ = ["keys"]


@click.group()
def keys() -> None:
    """See, lock, replace, add, revoke and back up the keys that sign for this fleet."""


for _command in (rotate, add, revoke, new, export, sign, import_, discard, backup, restore):
    keys.add_command(_command)


@keys.command()
@fleet_command
def status(session: Session) -> int:
    """Show which keys count, where they are, and when what they have signed expires; 1 when something has expired.

    Example: edgeferry keys status
    """
    repository = session.repository()
    rekeying = Rekeying(repository)
    files = {(file.role, file.keyid): file for file in repository.keys.files()}
    expiries, thresholds = repository.expiries(), rekeying.thresholds()
    rows = [
        {
            "role": role,
            "key": keyid[:16],
            "where": _where(files.get((role, keyid[:16]))),
            "has_to_sign": f"{thresholds[role]} of {len(keyids)}",
            "expires": f"{expiries[role]:%Y-%m-%d}",
        }
        for role, keyids in rekeying.keyids().items()
        for keyid in keyids
    ]
    advice = _advice(repository, rekeying, list(files.values()), now())
    if session.as_json:
        print_json({"keys": rows, "advice": advice})
    else:
        print_table(("role", "key", "where", "has to sign", "expires"), [tuple(row.values()) for row in rows])
        for sentence in advice:
            hint(sentence)
    return EXIT_FAILED if any(expires <= now() for expires in expiries.values()) else EXIT_DONE


def _where(file: KeyFile | None) -> str:
    if file is None:
        return "elsewhere"
    return "here, locked" if file.is_locked else "here, open"


def _advice(repository: Repository, rekeying: Rekeying, files: list[KeyFile], at: datetime) -> list[str]:
    """Return what the person should do, in sentences."""
    advice = []
    is_open = sorted({str(file.role) for file in files if file.role in LOCKABLE and not file.is_locked})
    if is_open:
        advice.append(
            f"the keys of {', '.join(is_open)} lie open: whoever reads this disk can sign with them; lock them with"
            " `edgeferry keys passphrase`"
        )
    advice += [
        f"{role} metadata {'has expired' if expires <= at else 'expires'} on {expires:%Y-%m-%d}; renew it with "
        "`edgeferry keys renew`"
        for role, expires in repository.overdue(at).items()
    ]
    if proposal := rekeying.proposal():
        approval = proposal.approval
        advice.append(
            f"root {proposal.metadata.signed.version} waits for signatures: {approval}; see `edgeferry keys export`"
        )
    counting = {(role, keyid[:16]) for role, keyids in rekeying.keyids().items() for keyid in keyids}
    unused = [file.path.name for file in files if (file.role, file.keyid) not in counting]
    if unused and not proposal:
        advice.append(f"nothing trusts these keys any more, they may be removed: {', '.join(unused)}")
    return advice


@keys.command()
@fleet_command
@signs
@click.option(
    "--new-passphrase-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Holds the new passphrase; without it you are asked.",
)
@click.option("--remove", is_flag=True, help="Leave all keys open.")
def passphrase(session: Session, *, new_passphrase_file: Path | None, remove: bool) -> None:
    """Lock the keys of root, targets and documents with a passphrase, or change it.

    Those of snapshot and timestamp stay open, so that an origin can sign while nobody is there.

    Example: edgeferry keys passphrase
    """
    if remove and new_passphrase_file:
        raise UsageError("--remove takes no new passphrase; say one of the two")
    folder = session.repository().keys
    if remove:
        changed = folder.unlock()
    else:
        changed = folder.lock(_new_secret(session, new_passphrase_file, is_first=not _any_locked(folder.files())))
    if session.as_json:
        print_json({"changed": [file.path.name for file in changed], "locked": not remove})
        return
    click.echo(f"{'open' if remove else 'locked'}: {', '.join(file.path.name for file in changed) or 'nothing'}")
    if not remove:
        hint("nobody can open them without the passphrase: keep it, and `edgeferry keys backup`, at another place")


def _any_locked(files: list[KeyFile]) -> bool:
    return any(file.is_locked for file in files)


def _new_secret(session: Session, file: Path | None, *, is_first: bool) -> bytes:
    """Return the new passphrase: from its file, or, for the first one, from where it comes later on, or typed.

    Raises:
        UsageError: Nobody gives one.
    """
    source = Passphrase(file)
    if file is None and is_first:
        source = Passphrase(session.passphrase_file, session.settings().passphrase_command)
    secret = source.choose("root, targets and documents")
    if not secret:
        raise UsageError("a passphrase is wanted: type one, or give --new-passphrase-file FILE")
    return secret


@keys.command()
@fleet_command
@signs
def renew(session: Session) -> int:
    """Sign anew whatever has lived half of its life; asks for the passphrase where keys are locked.

    Example: edgeferry keys renew
    """
    repository = session.repository()
    rekeying = Rekeying(repository)
    repository.publish(now(), asks=True)
    is_done = KeyRole.ROOT not in repository.overdue(now()) or rekeying.renew_root(now())
    return finish(session, repository, is_published=is_done, what="renewed what was due")
