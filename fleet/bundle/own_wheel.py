"""The wheel of the edgeferry that runs here, so that a device gets the version that its workstation has.

An editable installation is built anew; any other is packed again from its files, as its RECORD lists them (PyPA,
"Recording installed projects" and "Binary distribution format").
"""

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

from edgeferry.fleet.errors import FleetError

__all__ = ["own_wheel"]

_BUILD_TIMEOUT_S = 300
_OF_THE_INSTALLER = ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can name; the same bytes every time
_EPOCH_S = "315532800"


def own_wheel(folder: Path) -> Path:
    """Write the wheel of this edgeferry into ``folder`` and return it.

    Raises:
        FleetError: It cannot be built, or files of the installation are missing.
    """
    installed = distribution("edgeferry")
    source = _editable_source(installed)
    return _built(source, folder) if source else _packed(installed, folder)


def _editable_source(installed: Distribution) -> Path | None:
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlsplit(origin["url"]).path))


def _built(source: Path, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*command, "--wheel-dir", str(folder), str(source)],
        env={**os.environ, "SOURCE_DATE_EPOCH": _EPOCH_S},  # the same bytes for the same source
        capture_output=True,
        text=True,
        timeout=_BUILD_TIMEOUT_S,
        check=False,
    )
    found = sorted(folder.glob("edgeferry-*.whl"))
    if done.returncode or not found:
        raise FleetError(f"the wheel of {source} cannot be built: {done.stderr.strip()[-500:]}")
    return found[-1]


def _packed(installed: Distribution, folder: Path) -> Path:
    wheel = folder / f"edgeferry-{installed.version}-py3-none-any.whl"
    information = f"edgeferry-{installed.version}.dist-info"
    record = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in sorted(_contents(installed)):
            packed.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            record.append(f"{name},sha256={digest},{len(data)}")
        record.append(f"{information}/RECORD,,")
        packed.writestr(zipfile.ZipInfo(f"{information}/RECORD", _EPOCH), "\n".join(record) + "\n")
    return wheel


def _contents(installed: Distribution) -> list[tuple[str, bytes]]:
    """Return the files that came from the wheel, by their names in it."""
    listed = [path for path in installed.files or () if ".." not in path.parts and "__pycache__" not in path.parts]
    found = [(str(path), Path(str(path.locate()))) for path in listed if path.name not in _OF_THE_INSTALLER]
    missing = [name for name, path in found if not path.is_file()]
    if missing or not found:
        raise FleetError(f"this installation of edgeferry lacks {missing[:3] or 'its files'}; install it anew")
    return [(name, path.read_bytes()) for name, path in found]
