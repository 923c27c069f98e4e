"""How long a dispatch may be, and which dispatches show the device's speed. The caller measures all times."""

DISPATCH_SECONDS = (
    2.0  # a notice of 30 s must suffice for a dispatch, its record and a checkpoint, even on a machine that slows down
)

CHECKPOINT_SECONDS = 300.0  # at most so much training is lost to a kill, beside one dispatch


class Pace:
    """How many units of work (steps, micro-batches) one dispatch has: one at first, then as many as take `DISPATCH_SECONDS` by the
    latest measurement, but at least one."""

    def __init__(self) -> None:
        self.each: float | None = None  # seconds per unit

    def count(self, most: int) -> int:
        if self.each is None:
            return 1
        return most if self.each * most <= DISPATCH_SECONDS else max(1, int(DISPATCH_SECONDS / self.each))

    def took(self, count: int, seconds: float) -> None:
        self.each = seconds / count


class DeviceTimer:
    """Which dispatches show the device's own time.

    While the device computes, the host records the previous dispatch. If the device is still busy when the host has finished, the wait
    ends with the device, and the time is the device's. If the host takes longer, the end of the device's work is not seen. Therefore a
    dispatch is occasionally timed alone, without recording beside it, rarely enough to cost little.
    """

    RARELY = 8  # at most one dispatch in so many is timed alone

    def __init__(self) -> None:
        self.seen = self.unseen = 0

    def alone(self) -> bool:
        """Whether the next dispatch must be timed alone."""
        return self.unseen >= min(self.seen, self.RARELY)

    def ended(self, seen: bool) -> None:
        """A dispatch has ended, and its end was `seen` or not."""
        if seen:
            self.seen, self.unseen = self.seen + 1, 0
        else:
            self.unseen += 1
