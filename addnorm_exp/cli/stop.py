"""Ctrl-C and SIGTERM: the first signal asks training to stop and prints a notice at once; a second Ctrl-C ends the process."""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from addnorm_exp.atomic import between
from addnorm_exp.errors import to_stderr

NOTICE = "stopping after this dispatch; press Ctrl-C again to quit now"
QUIT = "quit; "
PATIENCE = 5.0  # seconds to wait for a file that is being replaced, before the process ends
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignal(contextlib.AbstractContextManager["StopSignal"]):
    """`stop()` is true after SIGINT or SIGTERM. Training checks it between dispatches, saves, and ends.

    A second SIGINT ends the process, whatever it is doing, as soon as no file is half replaced. A second SIGTERM does not: it asks for an
    orderly end, and some launchers send it twice (`timeout` does).

    Python runs a signal's handler in the main thread between two bytecodes, so not while XLA compiles or the device computes. However,
    whatever the main thread is doing, Python writes the signal's number to a descriptor at once. A thread reads the descriptor, prints
    the notice and ends the process.

    `code` is the exit code of the process: 0 after SIGTERM, because everything is saved as requested; 130 after SIGINT, as in shells. As a
    context manager it restores the former handlers at the end. If another handler takes over a signal meanwhile, that signal is ignored
    here. Outside the main thread, where Python allows no signal handlers, it is never true.
    """

    def __init__(self, say: Callable[[str], None] = to_stderr, leave: Callable[[int], Any] = os._exit):
        self.came, self.code = False, 0
        self.say, self.leave = say, leave
        self.prospect: Callable[[], str] = lambda: "run the same command again to continue"  # follows QUIT
        self.mirror: Any = None  # a `Mirror`, whose process must not outlive this one
        self.launcher: Any = None  # a `Launcher`, whose processes must not either
        self._former: dict[int, Any] = {}
        self._notice: threading.Thread | None = None
        if threading.current_thread() is not threading.main_thread():
            return
        reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._former_descriptor = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._former = {number: signal.signal(number, self._on) for number in SIGNALS}
        self._reader = threading.Thread(target=self._read, args=(reading,), daemon=True)
        self._reader.start()

    def __call__(self) -> bool:
        return self.came

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Restores the former handlers. The notice of a signal that arrived before is still printed."""
        former, self._former = self._former, {}
        if not former:
            return
        signal.set_wakeup_fd(self._former_descriptor)
        os.close(self._writing)
        self._reader.join(PATIENCE)
        if self._notice:
            self._notice.join(PATIENCE)
        for number, handler in former.items():
            signal.signal(number, handler)

    def _on(self, number: int, frame: FrameType | None) -> None:
        """Runs in the main thread as soon as that executes Python, before or after the reading thread."""
        del frame
        if not self.came:
            self.came, self.code = True, 130 if number == signal.SIGINT else 0

    def _read(self, reading: int) -> None:
        """Runs in its own thread: handles signals as they arrive, until the descriptor is closed."""
        first = True
        with open(reading, "rb", buffering=0) as signals:
            while numbers := signals.read(64):
                for number in numbers:
                    if number not in SIGNALS or signal.getsignal(number) != self._on:
                        continue
                    if first:
                        first = False
                        self._on(number, None)
                        # In a thread: a stopped terminal must not block the next signal.
                        self._notice = threading.Thread(target=self.say, args=(NOTICE,), daemon=True)
                        self._notice.start()
                    elif number == signal.SIGINT:
                        self._quit()

    def _quit(self) -> None:
        with between(PATIENCE):
            if process := self.mirror and self.mirror.process:
                process.kill()
            if self.launcher:
                self.launcher.kill()
            cursor = "\x1b[?25h" if sys.__stderr__ and sys.__stderr__.isatty() else ""  # a bar hides the cursor
            _write(f"{cursor}{QUIT}{self._prospect()}\n")
            self.leave(130)

    def _prospect(self) -> str:
        try:
            return self.launcher.prospect() if self.launcher else self.prospect()
        except Exception as error:  # whatever it is, the process must end
            return f"the checkpoints cannot be read ({error})"


def _write(text: str) -> None:
    """Writes to standard error without buffers and locks; skips the text if it would have to wait."""
    with contextlib.suppress(OSError, ValueError):  # closed
        if select.select([], [2], [], 0)[1]:
            os.write(2, text.encode())
