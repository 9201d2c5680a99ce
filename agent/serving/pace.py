"""How much of the time a model may run: after each run it rests in proportion, so that a hot board cools down."""

__all__ = ["Pace"]

LONGEST_REST_S = 5.0  # a model that runs for a minute is not the one that a rest of minutes would help


class Pace:
    """One for all models of a process; set by one thread, read by many.

    Attributes:
        share: Of the time, above 0 up to 1; 1 is without rests.
    """

    def __init__(self) -> None:
        self.share = 1.0

    def rest_s(self, busy_s: float) -> float:
        """Return how long to rest after a run of ``busy_s``."""
        return min(busy_s * (1 / self.share - 1), LONGEST_REST_S)
