"""`edgeferry keys rotate`, `add` and `revoke`: other keys for a role; devices follow by themselves."""

import json
from pathlib import Path

import click

from edgeferry.fleet.errors import EXIT_DONE, EXIT_PENDING, UsageError
from edgeferry.fleet.files import explained
from edgeferry.fleet.keys import KeyRole
from edgeferry.fleet.rekeying import Rekeying
from edgeferry.fleet.rendering import hint, print_json
from edgeferry.fleet.repository import Repository
from edgeferry.fleet.roots import parse_public_key, role_of_key
from edgeferry.fleet.session import Session, fleet_command, now, signs
from edgeferry.fleet.telling import refuse_changed_elsewhere, tell_the_fleet

__all__ = ["add", "finish", "revoke", "rotate"]

_ROLE = click.argument("role", type=click.Choice([role.value for role in KeyRole]))
_THRESHOLD = click.option(
    "--threshold", type=click.IntRange(min=1), default=None, help="How many keys have to sign from now on."
)


@click.command()
@_ROLE
@fleet_command
@signs
@click.option("--key", "replaced", metavar="ID", help="The key to replace, where the role has several.")
def rotate(session: Session, role: str, *, replaced: str | None) -> int:
    """Replace a key of ROLE by a new one that is made here; what the old one signs counts no longer.

    Example: edgeferry keys rotate timestamp
    """
    repository = session.repository()
    refuse_changed_elsewhere(session, repository, only_roots=True)
    rekeying = Rekeying(repository)
    known = rekeying.keyids()[KeyRole(role)]
    if replaced is None and len(known) > 1:
        raise UsageError(f"{role} has {len(known)} keys; say which one with --key: {', '.join(k[:16] for k in known)}")
    keyid = role_of_key({KeyRole(role): known}, replaced)[1] if replaced else ""
    is_published = rekeying.rotate(KeyRole(role), now(), replaced=keyid)
    return finish(session, repository, is_published=is_published, what=f"{role} has a new key")


@click.command()
@_ROLE
@click.argument("public_key", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="PUBLIC")
@fleet_command
@signs
@_THRESHOLD
def add(session: Session, role: str, public_key: Path, *, threshold: int | None) -> int:
    """Let the key in PUBLIC, which `edgeferry keys new` has made for its holder, sign for ROLE as well.

    Example: edgeferry keys add root carol.public.json --threshold 2
    """
    with explained(public_key):
        data = public_key.read_bytes()
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    key = parse_public_key(value, str(public_key))
    repository = session.repository()
    refuse_changed_elsewhere(session, repository, only_roots=True)
    is_published = Rekeying(repository).add(KeyRole(role), key, now(), threshold=threshold or 0)
    return finish(session, repository, is_published=is_published, what=f"key {key.keyid[:16]} signs for {role}")


@click.command()
@click.argument("keyid", metavar="ID")
@fleet_command
@signs
@_THRESHOLD
def revoke(session: Session, keyid: str, *, threshold: int | None) -> int:
    """Let nothing count any more that the key ID has signed or signs; the beginning of the id is enough.

    Example: edgeferry keys revoke 4f1c20aa
    """
    repository = session.repository()
    refuse_changed_elsewhere(session, repository, only_roots=True)
    rekeying = Rekeying(repository)
    role, found = role_of_key(rekeying.keyids(), keyid)
    is_published = rekeying.revoke(role, found, now(), threshold=threshold or 0)
    return finish(session, repository, is_published=is_published, what=f"key {found[:16]} of {role} is revoked")


def finish(session: Session, repository: Repository, *, is_published: bool, what: str) -> int:
    """Say the change to devices, or say who has to sign it; return the exit code."""
    if is_published:
        tell_the_fleet(session, repository)
    proposal = Rekeying(repository).proposal()
    root = max(repository.roots())
    if session.as_json:
        print_json(
            {
                "published": is_published,
                "generation": repository.generation,
                "root": root,
                "proposal": str(repository.root_folder.proposal_path) if proposal else None,
                "approval": proposal.approval if proposal else None,
            }
        )
    elif is_published:
        click.echo(f"{what}: generation {repository.generation}, root {root}; devices follow by themselves")
    else:
        click.echo(
            f"{what} as soon as enough holders of root keys have signed: {proposal.approval if proposal else ''}"
        )
        hint("next: `edgeferry keys export FILE`, each holder `edgeferry keys sign FILE`, `edgeferry keys import FILE`")
    return EXIT_DONE if is_published else EXIT_PENDING
