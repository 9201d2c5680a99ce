"""Configuration and credentials of an installed agent: written from a token, kept where they say the same."""

import os
from pathlib import Path

import yaml

from edgeferry.agent.config import rendered_config, usable_token, write_identity
from edgeferry.agent.errors import ConfigError
from edgeferry.agent.fsops import Disk
from edgeferry.agent.installation.places import Places
from edgeferry.agent.installation.steps import folder, published, say
from edgeferry.wire.joining import JoinToken

__all__ = ["configure"]


def configure(places: Places, owner: tuple[int, int], token_text: str, *, http: str, force: bool) -> bool:
    """Have configuration and credentials, readable by ``owner``; tell whether anything was changed.

    Args:
        places: Where they belong.
        owner: User and group id of the agent.
        token_text: What the device joins with; empty to keep what is there.
        http: HOST:PORT for REST, where the configuration is new.
        force: Write the configuration anew, whatever it says, and join as another device if the token says so.

    Raises:
        ConfigError: There is neither a token nor a configuration, or the token is another device's.
    """
    folder(places.config.parent, 0o755)
    folder(places.state_dir, 0o700, owner)
    if not token_text:
        if not places.config.exists():
            raise ConfigError("this device has not joined a fleet yet; give its token with --token-file")
        return False
    return _join(places, owner, usable_token(token_text), http=http, force=force)


def _join(places: Places, owner: tuple[int, int], token: JoinToken, *, http: str, force: bool) -> bool:
    before = _contents(places)
    new = rendered_config(token, places.state_dir, http)
    kept = None if force else _kept(places.config, token)
    if kept is not None:
        _tell_difference(kept, new)
    identity = places.state_dir / "identity"
    write_identity(token, places.state_dir, Disk())
    for path in (identity, *identity.iterdir()):
        os.chown(path, *owner)
    published(places.config, new if kept is None else kept)
    return _contents(places) != before


def _kept(config: Path, token: JoinToken) -> bytes | None:
    """Return the configuration that is there already: a person may have added to it. None where there is none."""
    if not config.exists():
        return None
    data = config.read_bytes()
    found = _decoded(data).get("id")
    if found != token.id:
        raise ConfigError(
            f"{config} is of device {found!r}, and the token of {token.id!r}; `edgeferry-agent uninstall --purge` "
            "forgets the one that is here, --force takes its place"
        )
    return data


def _tell_difference(kept: bytes, new: bytes) -> None:
    differing = [key for key in ("profile", "groups", "broker") if _decoded(kept).get(key) != _decoded(new).get(key)]
    if differing:
        say(f"the configuration was kept; the token says something else of {', '.join(differing)} (--force takes that)")


def _decoded(data: bytes) -> dict[str, object]:
    try:
        found = yaml.safe_load(data)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def _contents(places: Places) -> dict[str, bytes]:
    identity = places.state_dir / "identity"
    files = [places.config, *(identity.iterdir() if identity.is_dir() else ())]
    return {str(path): path.read_bytes() for path in files if path.exists()}
