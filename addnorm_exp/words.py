"""Numbers as sentences have them."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 run`, `2 runs`; `plural` where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def size(count: float) -> str:
    """Bytes, in powers of ten: 25.3 GB."""
    for unit, one in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:,.1f} {unit}"
    return f"{count:.0f} B"
