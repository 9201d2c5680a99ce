"""On a device there is no `cryptography` package, no numpy, and little time."""

import json
import subprocess
import sys

from edgeferry.fleet.keys import KeyRole
from tests.trust.simulator import Device, Fleet

FOLLOW = """
import json, sys, time
from pathlib import Path

sys.modules["cryptography"] = None  # as where it is not installed

from edgeferry.agent.trust import Missing, TrustClient

folder = Path(sys.argv[1])
client = TrustClient(
    device="cam-1",
    profile="raspberry-pi-4",
    files={},
    bootstrap_root=(folder / "1").read_bytes(),
    work_dir=folder / "run",
)
fetched, looks_ms = set(), []
while True:
    began = time.process_time()
    seen = client.refresh(
        roots={n: (folder / str(n)).read_bytes() for n in (1, 2)},
        timestamp=(folder / "timestamp").read_bytes(),
        blob=lambda ref: (folder / ref.sha256).read_bytes() if ref.sha256 in fetched else None,
        now_ms=int(sys.argv[2]),
    )
    looks_ms.append((time.process_time() - began) * 1000)
    if not isinstance(seen, Missing):
        break
    fetched |= {ref.sha256 for ref in seen.blobs}
unwanted = [name for name in ("numpy", "ai_edge_litert", "tensorflow", "paho") if name in sys.modules]
loaded = [name for name in sys.modules if name.startswith("cryptography") and sys.modules[name]]
print(json.dumps({"versions": {m: w.version for m, w in seen.wishes.items()}, "root": seen.root_version,
                  "looks_ms": looks_ms, "unwanted": unwanted + loaded}))
"""


def test_a_device_without_cryptography_follows_in_little_time(fleet: Fleet, device: Device, tmp_path):
    fleet.rotate(KeyRole.ROOT)
    device.follow(fleet.broker(), fleet.now_ms)
    broker = fleet.broker()
    offered = tmp_path / "offered"
    offered.mkdir()
    (offered / "timestamp").write_bytes(broker.timestamp)
    for name, data in [*broker.roots.items(), *device.blobs.items()]:
        (offered / str(name)).write_bytes(data)

    command = [sys.executable, "-c", FOLLOW, str(offered), str(fleet.now_ms)]
    child = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    assert child.returncode == 0, child.stderr
    told = json.loads(child.stdout)
    assert (told["versions"], told["root"], told["unwanted"]) == ({"digits": 1}, 2, [])
    assert (
        sorted(told["looks_ms"])[len(told["looks_ms"]) // 2] < 200
    )  # 12 ms on a desktop; ten times that on a small board
