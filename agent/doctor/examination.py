"""The whole examination, in the order in which a person would mend things."""

import hashlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from edgeferry.agent.clock import BUILT_MS, now_ms
from edgeferry.agent.config import AgentConfig, load_config
from edgeferry.agent.doctor.belief import Belief, believe, examine_trust
from edgeferry.agent.doctor.broker import Credentials, examine_broker
from edgeferry.agent.doctor.finding import Finding, fine, problem, warning
from edgeferry.agent.doctor.gathering import gather_machine, gather_service, kept_blob, kept_metadata
from edgeferry.agent.doctor.machine import examine_clock, examine_disk, examine_hardware, examine_memory
from edgeferry.agent.doctor.permissions import examine_permissions
from edgeferry.agent.doctor.runtime import examine_runtime
from edgeferry.agent.doctor.service import examine_service
from edgeferry.agent.errors import AgentError, ConfigError
from edgeferry.agent.state_folder import holder_of
from edgeferry.agent.store import room_needed
from edgeferry.wire.topics import Topics

__all__ = ["examine"]


def examine(config_path: Path) -> Iterator[Finding]:
    """Yield one finding after the other; the first that stops the rest is the last.

    Args:
        config_path: The agent.yaml.
    """
    try:
        config = load_config(config_path)
    except ConfigError as err:
        advice = f"look as root, correct {config_path}, or write it anew: edgeferry-agent init --force"
        yield problem("configuration", str(err), advice)
        return
    yield fine("configuration", f"{config_path}: device {config.id}, profile {config.profile.name}")
    yield from examine_runtime(config.profile.runtime)
    try:
        yield from _examine_device(config, config_path)
    except (AgentError, OSError) as err:
        advice = f"look as the agent's user or root: sudo edgeferry-agent doctor --config {config_path}"
        yield problem("state folder", str(err), advice)


def _examine_device(config: AgentConfig, config_path: Path) -> Iterator[Finding]:
    if not config.state_dir.is_dir():
        advice = f"start the agent once, or correct state_dir in {config_path}"
        yield problem("state folder", f"there is no folder {config.state_dir}", advice)
        return
    belief = _belief(config)
    machine = gather_machine(config.state_dir)
    yield examine_hardware(machine, config.profile)
    yield examine_clock(machine, belief.issued_ms, BUILT_MS)
    needed_bytes = room_needed(config.profile.budgets.model_bytes, machine.total_bytes)
    yield examine_disk(machine, needed_bytes, str(config.state_dir))
    yield from examine_memory(machine, config.profile)
    yield from examine_permissions(config.state_dir, _secrets(config))
    yield from _examine_brokers(config)
    yield from examine_trust(belief)
    yield examine_service(gather_service(), holder_of(config.state_dir / "lock"))


def _belief(config: AgentConfig) -> Belief:
    files = kept_metadata(config.state_dir)
    root = config.root or _root_called(config.root_sha256, files)
    if not root:
        return Belief(None, 0)
    return believe(
        files,
        partial(kept_blob, config.state_dir),
        device=config.id,
        profile=config.profile.name,
        root=root,
        now_ms=now_ms(),
    )


def _root_called(root_sha256: str, files: Mapping[str, bytes]) -> bytes:
    """Return the root that the configuration names by its hash; nothing before it has come from the broker."""
    return next((data for data in files.values() if hashlib.sha256(data).hexdigest() == root_sha256), b"")


def _secrets(config: AgentConfig) -> tuple[Path, ...]:
    named = (config.password_file, config.tls_key, config.serving_token_file)
    return tuple(path for path in named if path)


def _examine_brokers(config: AgentConfig) -> Iterator[Finding]:
    credentials = Credentials(config.id, config.password, config.ca_file)
    subscriptions = Topics(config.topic_root).device_subscriptions(config.id)
    for url in config.brokers:
        found = examine_broker(url, credentials, subscriptions)
        yield found
        if not url.tls and url.host not in ("127.0.0.1", "localhost", "::1"):
            advice = "use mqtts:// with a broker that has a certificate; docs/operations.md tells how"
            yield warning("encryption", f"{url}: the password and all answers travel in the clear", advice)
