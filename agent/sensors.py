"""What the kernel's files tell of a small board: firmware, Wi-Fi, card, model. Each function raises where it is absent.

Everything stands below a root folder, so that other machines' files can be read as well.
"""

from pathlib import Path

__all__ = ["board", "cpu_temp_c", "firmware_word", "storage_used_pct", "wifi_dbm"]

_THERMAL = "sys/class/thermal/thermal_zone0/temp"
_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
_WIRELESS = "proc/net/wireless"
_LIFE_TIMES = "sys/block/mmcblk*/device/life_time"
_TREE = "proc/device-tree"


def cpu_temp_c(root: Path) -> float:
    """Return the processor's temperature."""
    return int((root / _THERMAL).read_text()) / 1000


def firmware_word(root: Path) -> int:
    """Return a Raspberry Pi's throttling bits: as they are in bits 0 to 3, as they once were since boot in 16 to 19.

    Within four bits: too little voltage, clock capped, throttled, soft temperature limit (vcgencmd get_throttled).
    """
    return int((root / _THROTTLED).read_text(), 16)


def wifi_dbm(root: Path) -> float:
    """Return the signal level of the best wireless interface, in dBm; -30 is excellent, -80 hardly works.

    Raises:
        ValueError: There is none, or its driver tells no level.
    """
    rows = [line.split() for line in (root / _WIRELESS).read_text().splitlines()[2:]]  # two lines of headings
    levels = [float(row[3]) for row in rows if len(row) > 3]
    return max(level for level in levels if level < 0)


def storage_used_pct(root: Path) -> float:
    """Return how much of its life the most worn card or eMMC has behind it, as its maker estimates, in steps of 10 %.

    Raises:
        ValueError: None of them tells; SD cards seldom do (JEDEC eMMC 5.0: DEVICE_LIFE_TIME_EST_TYP_A and _B).
    """
    estimates = [int(text, 16) for path in root.glob(_LIFE_TIMES) for text in path.read_text().split()]
    return max(estimate for estimate in estimates if estimate) * 10.0  # 0 is "not defined", 11 beyond its life


def board(root: Path) -> dict[str, str]:
    """Return model and revision code of a board with a device tree; nothing on other machines."""
    found = {}
    model, revision = root / _TREE / "model", root / _TREE / "system" / "linux,revision"
    if model.exists():
        found["model"] = model.read_text(errors="replace").strip("\0 \n")
    if revision.exists():
        found["revision"] = revision.read_bytes().hex().lstrip("0")
    return found
