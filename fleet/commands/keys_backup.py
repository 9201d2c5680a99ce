"""`edgeferry keys backup` and `restore`: the fleet folder without its models, as one sealed file."""

from pathlib import Path

import click

from edgeferry.fleet.backup import MAX_BACKUP_BYTES, back_up
from edgeferry.fleet.backup import restore as restore_backup
from edgeferry.fleet.errors import ConfigurationError, UsageError
from edgeferry.fleet.files import PRIVATE, explained, folder_lock, write_atomically
from edgeferry.fleet.passphrase import Passphrase
from edgeferry.fleet.publication import Publication
from edgeferry.fleet.rendering import hint, human_bytes, print_json
from edgeferry.fleet.sealing import is_sealed
from edgeferry.fleet.session import Session, fleet_command, signs

__all__ = ["backup", "restore"]


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@fleet_command
@signs
def backup(session: Session, file: Path) -> None:
    """Write keys, passwords, settings, devices and what is published to one file that a passphrase opens.

    The passphrase is the backup's own. Models are not in it.

    Example: edgeferry keys backup fleet.backup
    """
    session.repository()
    if file.exists():
        raise UsageError(f"{file} exists; a backup overwrites nothing: choose another name")
    secret = Passphrase(session.passphrase_file, session.settings().passphrase_command).choose("the backup")
    if not secret:
        raise UsageError("a backup has a passphrase: type one, or give --passphrase-file FILE")
    with folder_lock(session.fleet_dir / "lock"):
        data, files = back_up(session.fleet_dir, Publication.load(session.fleet_dir), secret)
    write_atomically(file, data, mode=PRIVATE)
    if session.as_json:
        print_json({"file": str(file), "files": files, "size_bytes": len(data)})
        return
    click.echo(f"{file}: {files} files, {human_bytes(len(data))}")
    hint("keep it, and its passphrase, away from this machine; make a new one when keys or devices have changed")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@fleet_command
@signs
def restore(session: Session, file: Path) -> None:
    """Make the fleet folder of a backup anew, in a folder that is empty or not there yet.

    Example: edgeferry keys restore fleet.backup --fleet restored
    """
    with explained(file):
        size_bytes = file.stat().st_size
    if size_bytes > MAX_BACKUP_BYTES:
        raise ConfigurationError(
            f"{file}: {human_bytes(size_bytes)}, a backup has at most {human_bytes(MAX_BACKUP_BYTES)}"
        )
    data = file.read_bytes()
    if not is_sealed(data):
        raise ConfigurationError(f"{file}: the backup is none: wanted a file that `edgeferry keys backup` has written")
    secret = Passphrase(session.passphrase_file).get(str(file))
    files = restore_backup(data, secret, session.fleet_dir)
    if session.as_json:
        print_json({"fleet": str(session.fleet_dir), "files": files})
        return
    click.echo(f"fleet restored in {session.fleet_dir}: {files} files; models come back when they are pushed again")
    hint(
        "if anything was published after this backup, devices refuse what is older: `edgeferry keys rotate snapshot`"
        " and `edgeferry keys rotate timestamp` let them follow"
    )
