"""A device for the tests: an `ssh` that runs its commands in a folder of this machine, and can be cut off."""

from pathlib import Path

import pytest

# Options are dropped up to the target; what follows is run by a shell, as sshd does.
_SSH = r"""#!/bin/sh
[ -e "$DEVICE/unplugged" ] && { echo "ssh: connect to host pi port 22: No route to host" >&2; exit 255; }
while [ $# -gt 0 ]; do case $1 in -o|-p|-i|-O) shift 2;; -*) shift;; *) break;; esac; done
shift
[ $# = 0 ] && exit 0
export HOME="$DEVICE/home"
if [ -e "$DEVICE/cut_after" ] && case $* in *tar*) true;; *) false;; esac; then
    head -c "$(cat "$DEVICE/cut_after")" | sh -c "$*" 2>/dev/null
    echo "client_loop: send disconnect: Broken pipe" >&2; exit 255
fi
exec sh -c "$*"
"""


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that plays the device; its `home` is where the user is."""
    folder = tmp_path / "device"
    (folder / "home").mkdir(parents=True)
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "ssh").write_text(_SSH)
    (commands / "ssh").chmod(0o755)
    monkeypatch.setenv("DEVICE", str(folder))
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    return folder
