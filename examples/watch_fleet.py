"""Read a fleet with nothing but MQTT: what devices run, how they are, and what happens to them.

    python examples/watch_fleet.py mqtt://HOST:PORT --user monitor --password-file FILE

FILE holds the password alone, or is the `secrets/passwords.json` of a fleet folder. State is retained and arrives at
once, telemetry every few seconds, events as they happen. docs/protocol.md tells every field. Needs paho-mqtt alone, not
edgeferry: this is where a dashboard of your own begins.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

ROOT = "edgeferry/v1"
PORTS = {"mqtt": 1883, "mqtts": 8883}


def told_state(state: dict[str, Any]) -> str:
    """Return what the device runs of each model, and why that differs from what is wanted."""
    models = [told_model(name, model) for name, model in state.get("models", {}).items()]
    problems = [state[key]["reason"] for key in ("metadata", "waiting") if key in state]
    return "; ".join([*models, *problems]) or "no model"


def told_model(name: str, model: dict[str, Any]) -> str:
    text = f"{name} wanted {model['wanted']} runs {model.get('labels', {}).get('stable', '-')}, {model['phase']}"
    if "transfer" in model:
        text += f" {model['transfer']['done_bytes']}/{model['transfer']['total_bytes']} bytes"
    if "problem" in model.get("last", {}):
        text += f" ({model['last']['outcome']}: {model['last']['problem']['reason']})"
    return text


def told_telemetry(telemetry: dict[str, Any]) -> str:
    """Return the figures that are there: a sensor that a device lacks is left out."""
    wanted = (("cpu_pct", "%"), ("cpu_temp_c", "C"), ("mem_pct", "%"), ("disk_pct", "%"))
    figures = [f"{key.split('_')[0]} {telemetry[key]:g} {unit}" for key, unit in wanted if key in telemetry]
    for name, model in telemetry.get("models", {}).items():
        figures.append(f"{name} {model['total']} answers, p95 {model.get('p95_ms', '-')} ms")
    return ", ".join(figures)


def told_event(event: dict[str, Any]) -> str:
    """Return what happened; `seq` counts up on each device, so a reader can tell what it has missed."""
    words = [f"#{event['seq']}", event["kind"], event.get("model", ""), str(event.get("version", ""))]
    words += [event.get("outcome", ""), event.get("reason", ""), event.get("detail", "")]
    return " ".join(word for word in words if word)


TOLD: dict[str, Callable[[dict[str, Any]], str]] = {
    "state": told_state,
    "telemetry": told_telemetry,
    "event": told_event,
}


def on_connect(client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
    """Subscribe on every connect. At QoS 1 brokers would replay the first thousand retained messages only."""
    print(f"connected: {code}", file=sys.stderr, flush=True)
    if not code.is_failure:
        client.subscribe([(f"{ROOT}/d/+/{kind}", 0) for kind in TOLD])


def on_message(_client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
    """Print one line. A device that was taken out of the fleet leaves an empty message behind."""
    *_, device, kind = message.topic.split("/")
    if message.payload:
        print(f"{device} {kind}: {TOLD[kind](json.loads(message.payload))}", flush=True)


def password_from(file: Path, user: str) -> str:
    text = file.read_text()
    return json.loads(text)[user] if file.suffix == ".json" else text.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description="Read a fleet with nothing but MQTT.")
    parser.add_argument("broker", help="mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
    parser.add_argument("--user", default="monitor")
    parser.add_argument("--password-file", type=Path, required=True)
    parser.add_argument("--ca-file", help="certificate that signed the broker's, where the system does not know it")
    options = parser.parse_args()
    url = urlsplit(options.broker)

    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.username_pw_set(options.user, password_from(options.password_file, options.user))
    if url.scheme == "mqtts":
        client.tls_set(ca_certs=options.ca_file)
    client.on_connect, client.on_message = on_connect, on_message
    client.connect(url.hostname or "localhost", url.port or PORTS[url.scheme])
    client.loop_forever()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
