"""Faces of the fleet's view: rows of a table, and data for machines. Pure."""

from collections.abc import Mapping
from typing import Any

from edgeferry.fleet.inventory import Device
from edgeferry.fleet.monitor.view import DeviceView, FleetView
from edgeferry.wire.desired import STABLE
from edgeferry.wire.messages import LabelState, ModelState, Telemetry

__all__ = ["MONITOR_COLUMNS", "device_row", "device_summary", "monitor_rows", "view_summary"]

MONITOR_COLUMNS = ("device", "is", "cpu", "temp", "memory", "disk free", "up", "models", "requests/s", "p95", "doing")


def device_row(device: Device, view: DeviceView, now: float) -> tuple[str, ...]:
    """Return a line for `edgeferry devices`; a device without a profile is not in the inventory."""
    return (
        device.id,
        device.profile or "not in the inventory",
        ", ".join(device.groups),
        view.liveness(now),
        _models(view),
    )


def device_summary(device: Device, view: DeviceView, now: float) -> dict[str, Any]:
    """Return what is known of a device, for machines."""
    return {
        "id": device.id,
        "profile": device.profile,
        "groups": list(device.groups),
        "in_inventory": bool(device.profile),
        **_reported(view, now),
    }


def view_summary(view: FleetView, now: float) -> dict[str, Any]:
    """Return what is known of every device that was heard, for machines."""
    devices = {name: _reported(device, now) for name, device in sorted(view.devices.items())}
    return {"devices": devices, "refused_messages": view.refused}


def monitor_rows(view: FleetView, now: float) -> list[tuple[str, ...]]:
    """Return a line per device for `edgeferry monitor`, in the order of their names."""
    return [_monitor_row(device, now) for _, device in sorted(view.devices.items())]


def _reported(view: DeviceView, now: float) -> dict[str, Any]:
    return {
        "liveness": view.liveness(now),
        "heard_s_ago": round(now - view.heard_at, 1) if view.heard_at else None,
        "info": view.info,
        "state": view.state,
        "telemetry": view.telemetry,
    }


def _monitor_row(view: DeviceView, now: float) -> tuple[str, ...]:
    telemetry = view.telemetry
    return (
        view.id,
        view.liveness(now),
        _figure(telemetry, "cpu_pct", "%"),
        _figure(telemetry, "cpu_temp_c", " °C"),
        _figure(telemetry, "mem_pct", "%"),
        _figure(telemetry, "disk_free_bytes", " GB", divisor=1e9, digits=1),
        _figure(telemetry, "uptime_s", " h", divisor=3600, digits=1),
        _models(view),
        _figure(telemetry, "infer_rps", "", digits=1),
        _slowest(telemetry),
        ", ".join([*_complaints(telemetry), *_doing(view.state.models if view.state else {})]),
    )


def _figure(telemetry: Telemetry | None, name: str, unit: str, *, divisor: float = 1.0, digits: int = 0) -> str:
    value = getattr(telemetry, name) if telemetry else None
    return "" if value is None else f"{value / divisor:.{digits}f}{unit}"


def _slowest(telemetry: Telemetry | None) -> str:
    figures = [model.p95_ms for model in telemetry.models.values() if model.p95_ms is not None] if telemetry else []
    return f"{max(figures):.1f} ms" if figures else ""


def _models(view: DeviceView) -> str:
    models = view.state.models if view.state else {}
    return ", ".join(f"{name} {_version(model)}" for name, model in sorted(models.items()))


def _version(model: ModelState) -> str:
    stable = "quarantined" if model.quarantined else str(model.labels.get(STABLE, "-"))
    others = [_other_version(label, state, model) for label, state in sorted(model.others.items())]
    return " ".join([stable, f"({', '.join(others)})"]) if others else stable


def _other_version(label: str, state: LabelState, model: ModelState) -> str:
    version = "quarantined" if state.quarantined else model.labels.get(label, "-")
    return f"{label} {version}, {state.percent}%" if state.percent else f"{label} {version}"


def _doing(models: Mapping[str, ModelState]) -> list[str]:
    phases = [
        (f"{name} {label}".removesuffix(f" {STABLE}"), state.phase)
        for name, model in sorted(models.items())
        for label, state in [(STABLE, model), *sorted(model.others.items())]
    ]
    return [f"{name}: {phase}" for name, phase in phases if phase != "idle"]


def _complaints(telemetry: Telemetry | None) -> list[str]:
    """Return what a person should do something about on the spot."""
    if telemetry is None:
        return []
    said = (("low voltage", telemetry.undervoltage), ("throttled", telemetry.throttled))
    return [words for words, is_so in said if is_so]
