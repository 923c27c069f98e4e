"""Ctrl-C and SIGTERM, as a question that training asks between chunks."""

import signal
from typing import Any


class StopSignal:
    """True once SIGTERM or SIGINT has come; a second SIGINT interrupts at once.

    `code` is the exit code to end with: 0 after SIGTERM, where all is saved as asked; 130 after SIGINT, as shells have it.
    """

    def __init__(self):
        self.came, self.code = False, 0
        signal.signal(signal.SIGTERM, self._on)
        signal.signal(signal.SIGINT, self._on)

    def _on(self, number: int, frame: Any) -> None:
        del frame
        self.came, self.code = True, 130 if number == signal.SIGINT else 0
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def __call__(self) -> bool:
        return self.came
