"""How long a dispatch may be, and what a dispatch says of the device's speed. Both know time only by what they are told."""

DISPATCH_SECONDS = (
    2.0  # a notice of 30 s must suffice for a dispatch, its record and a checkpoint, on a machine that slows down too
)


class Pace:
    """How many units of work (steps, micro-batches) one dispatch holds: one at first, then as many as take `DISPATCH_SECONDS` by the
    latest measurement, and never less than one."""

    def __init__(self) -> None:
        self.each: float | None = None  # seconds a unit

    def count(self, most: int) -> int:
        if self.each is None:
            return 1
        return most if self.each * most <= DISPATCH_SECONDS else max(1, int(DISPATCH_SECONDS / self.each))

    def took(self, count: int, seconds: float) -> None:
        self.each = seconds / count


class DeviceTimer:
    """Which dispatches show the device's own time.

    While the device computes, the host records the dispatch before. Where the device is still busy when the host has finished, the wait
    ends with the device, and the time is the device's. Where the host takes longer, the end of the device's work is not seen: so now and
    then a dispatch is timed alone, with nothing recorded beside it, seldom enough to cost little.
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
