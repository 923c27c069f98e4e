"""Prints the commands that train the runs, for a scheduler of any kind."""

import shlex
from collections import Counter

from addnorm_exp.sweep.agenda import Agenda
from addnorm_exp.sweep.launchers.remote import Remote
from addnorm_exp.words import counted


class Print(Remote):
    """Prints a line for each pack that can be trained now and that no process is training. A run that has failed is among them again.
    What is not a command goes to standard error."""

    def launch(self, agenda: Agenda) -> None:
        for run in agenda.take():
            if run.id in agenda.open:
                self.check_data(run)
        if not agenda.open:
            return
        agenda.elsewhere = True
        busy = [run for run in agenda.open.values() if agenda.place(run).is_locked()]
        agenda.busy += busy
        chosen = self.packs(agenda, agenda.left)
        for pack in chosen:
            print(shlex.join(self.command(agenda, pack)), flush=True)
        runs = Counter(run.phase for pack in chosen for run in pack.runs if run.id in agenda.open)
        number = sum(runs.values())
        phases = ", ".join(f"{count} to {phase}" if len(runs) > 1 else phase for phase, count in runs.items())
        if chosen:
            self.display.say(
                f"{agenda.name}: {counted(len(chosen), 'command')} for {counted(number, 'run')} ({phases})"
            )
        if busy:
            self.display.say(f"{agenda.name}: another process is training {counted(len(busy), 'run')}")
        left, waiting = len(agenda.left) - number, agenda.waiting
        more = [counted(left, "more run")] * bool(left) + [f"{counted(waiting, 'run')} to plan"] * bool(waiting)
        then = f"the next ones ({', '.join(more)})" if more else "the table"
        self.display.say(f"When they have ended, this prints {then}:\n{shlex.join(self.again())}")
