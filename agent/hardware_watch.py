"""When low voltage, throttling or a worn card is worth an event: when it begins, not whenever it flickers. Pure."""

from edgeferry.agent.events import Happened
from edgeferry.wire.messages import Code, EventKind, Problem, Reason, Telemetry

__all__ = ["HardwareWatch"]

QUIET_S = 600.0  # a weak power supply flickers with every load; one event for that is enough
WORN_PCT = 90.0

_UNDERVOLTAGE = "the supply voltage is below 4.63 V; use the board's own power supply and a short cable"
_THROTTLED = "the firmware slows the processor down; give it air, or less to do"
_WORN = "the card or eMMC has most of its life behind it; replace it before it fails"


class HardwareWatch:
    """Looks at one telemetry after the other; owned by the main loop."""

    def __init__(self) -> None:
        self._began: dict[Reason, bool] = {}
        self._told_s: dict[Reason, float] = {}

    def look(self, telemetry: Telemetry, now_s: float) -> list[Happened]:
        """Return what has begun since the telemetry before.

        Args:
            telemetry: The newest; what it does not tell is left as it was.
            now_s: Of a clock that never jumps.
        """
        used_pct, temp_c = telemetry.storage_used_pct, telemetry.cpu_temp_c
        at = f" at {temp_c:.0f} degrees Celsius" if temp_c is not None else ""
        seen = (
            (Reason.UNDERVOLTAGE, telemetry.undervoltage, _UNDERVOLTAGE),
            (Reason.THROTTLED, telemetry.throttled, _THROTTLED + at),
            (Reason.STORAGE_WORN, used_pct >= WORN_PCT if used_pct is not None else None, _WORN),
        )
        return [
            Happened(EventKind.HARDWARE, Problem(Code.RESOURCE_EXHAUSTED, reason, detail))
            for reason, is_so, detail in seen
            if is_so is not None and self._has_begun(reason, is_so=is_so, now_s=now_s)
        ]

    def _has_begun(self, reason: Reason, *, is_so: bool, now_s: float) -> bool:
        begins = is_so and not self._began.get(reason, False)
        self._began[reason] = is_so
        if not begins or now_s - self._told_s.get(reason, -QUIET_S) < QUIET_S:
            return False
        self._told_s[reason] = now_s
        return True
