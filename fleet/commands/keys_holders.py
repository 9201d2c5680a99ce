"""Root keys in several hands: `keys new` and `keys sign` on a holder's machine, `export` and `import` on the fleet's.

A holder needs no fleet folder and no network: a file comes with the root that is proposed, and goes back with one
signature more.
"""

import json
from pathlib import Path

import click
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root

from edgeferry.fleet.commands.keys_changes import finish
from edgeferry.fleet.errors import FleetError, UsageError
from edgeferry.fleet.files import PRIVATE, explained, write_atomically
from edgeferry.fleet.keys import KeyRole, load_key
from edgeferry.fleet.passphrase import Passphrase
from edgeferry.fleet.rekeying import Proposal, Rekeying
from edgeferry.fleet.rendering import hint, print_json
from edgeferry.fleet.roots import parse_root, public_key_of
from edgeferry.fleet.sealing import seal
from edgeferry.fleet.session import Session, fleet_command, now, signs
from edgeferry.fleet.telling import refuse_changed_elsewhere

__all__ = ["discard", "export", "import_", "new", "sign"]

_NEW_FILE = click.Path(dir_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_PASSPHRASE = click.option(
    "--passphrase-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Holds the key's passphrase, `-` for standard input; without it you are asked.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.command()
@click.argument("name", metavar="NAME", type=_NEW_FILE)
@_PASSPHRASE
@_JSON
def new(name: Path, *, passphrase_file: Path | None, as_json: bool) -> None:
    """Make a key for a holder: NAME.locked, which stays with you, and NAME.public.json for `keys add`.

    Example: edgeferry keys new carol
    """
    private, public = Path(f"{name}.locked"), Path(f"{name}.public.json")
    for path in (private, public):
        if path.exists():
            raise UsageError(f"{path} exists; a key is never overwritten: choose another name")
    secret = Passphrase(passphrase_file).choose("the new key")
    if not secret:
        raise UsageError("a key for a holder has a passphrase: type one, or give --passphrase-file FILE")
    signer = CryptoSigner.generate_ed25519()
    write_atomically(private, seal(signer.private_bytes, secret), mode=PRIVATE)
    write_atomically(public, json.dumps(public_key_of(signer.public_key), indent=1).encode() + b"\n")
    if as_json:
        print_json({"key": signer.public_key.keyid, "private": str(private), "public": str(public)})
        return
    click.echo(f"key {signer.public_key.keyid[:16]} made: {private}, {public}")
    hint(f"keep {private.name} where nobody else comes; give {public.name} to the operator of the fleet")


@click.command()
@click.argument("file", type=_NEW_FILE)
@fleet_command
def export(session: Session, file: Path) -> None:
    """Write the root that waits for signatures to FILE, for its holders to sign one after the other.

    Example: edgeferry keys export root.json
    """
    if file.exists():
        raise UsageError(f"{file} exists, and may hold somebody's signature; choose another name")
    proposal = _waiting(Rekeying(session.repository()))
    write_atomically(file, proposal.metadata.to_bytes())
    if session.as_json:
        print_json({"file": str(file), "approval": proposal.approval})
    else:
        click.echo(f"{file}: root {proposal.metadata.signed.version}, {proposal.approval}")


@click.command()
@click.argument("file", type=_FILE)
@click.option("--key", "key_file", required=True, type=_FILE, metavar="FILE", help="Your private key.")
@_PASSPHRASE
@click.option("--yes", is_flag=True, help="Sign without asking back.")
@_JSON
def sign(file: Path, *, key_file: Path, passphrase_file: Path | None, yes: bool, as_json: bool) -> None:
    """Sign the root in FILE with your key, after it was shown what it says. Needs neither fleet folder nor network.

    Example: edgeferry keys sign root.json --key carol.locked
    """
    with explained(file):
        metadata = parse_root(file.read_bytes(), str(file))
    if not as_json:
        click.echo(_described(metadata))
    if not yes:
        click.confirm("Sign it?", abort=True, err=True)
    signer = load_key(key_file, Passphrase(passphrase_file))
    metadata.sign(signer, append=True)
    write_atomically(file, metadata.to_bytes())
    keyid = signer.public_key.keyid
    if as_json:
        print_json({"file": str(file), "root": metadata.signed.version, "key": keyid})
        return
    click.echo(f"signed with {keyid[:16]}")
    if keyid not in metadata.signed.roles[Root.type].keyids:
        hint("this key is not among the root's own: it counts only where it was one of the root before")


@click.command(name="import")
@click.argument("file", type=_FILE)
@fleet_command
@signs
def import_(session: Session, file: Path) -> int:
    """Take in the signatures in FILE and publish the root when they are enough; 3 while more are wanted.

    Example: edgeferry keys import root.json
    """
    repository = session.repository()
    refuse_changed_elsewhere(session, repository, only_roots=True)
    with explained(file):
        data = file.read_bytes()
    is_published = Rekeying(repository).adopt(data, str(file), now())
    return finish(session, repository, is_published=is_published, what="the new root counts")


@click.command()
@fleet_command
def discard(session: Session) -> None:
    """Drop the change of root keys that waits for signatures; what is published stays.

    Example: edgeferry keys discard
    """
    repository = session.repository()
    is_there = repository.root_folder.proposal() is not None
    repository.root_folder.discard()
    if session.as_json:
        print_json({"discarded": is_there})
    else:
        click.echo("dropped" if is_there else "nothing was waiting")


def _waiting(rekeying: Rekeying) -> Proposal:
    proposal = rekeying.proposal()
    if proposal is None:
        raise FleetError("no change of root keys waits for signatures; begin one with `edgeferry keys add` or `rotate`")
    return proposal


def _described(metadata: Metadata[Root]) -> str:
    root = metadata.signed
    lines = [f"root {root.version}, until {root.expires:%Y-%m-%d}, signed by {len(metadata.signatures)} keys so far:"]
    for role in KeyRole:
        if role in root.roles:
            ids = ", ".join(keyid[:16] for keyid in root.roles[role].keyids)
            lines.append(f"  {role}: {root.roles[role].threshold} of {ids}")
    return "\n".join(lines)
