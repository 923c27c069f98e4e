"""What launchers have in common whose runs are trained by other processes, perhaps on other machines: `main.py train --ticket=…`."""

from collections.abc import Iterable
from dataclasses import replace

from addnorm_exp.child import program_words
from addnorm_exp.errors import UserError
from addnorm_exp.runs.tickets import ticket_file
from addnorm_exp.sweep.agenda import Agenda
from addnorm_exp.sweep.launchers.launcher import Launcher
from addnorm_exp.sweep.planner import PlannedPack, packs, unpublished
from addnorm_exp.sweep.study import Planned


class Remote(Launcher):
    """Has packs trained from the tickets of their runs. This machine need not be able to train them."""

    follows = frozenset({"pack", "max_runs"})

    def check_data(self, run: Planned) -> None:
        if scheme := unpublished(run):
            raise UserError(
                f"the scheme '{scheme}' is known only to this study file, and workers read tickets alone; add it to the catalogue "
                "(CONTRIBUTING.md), or use --launcher=local"
            )
        super().check_data(run)

    def packs(self, agenda: Agenda, runs: Iterable[Planned]) -> list[PlannedPack]:
        """The packs of these runs, longest first, as far as the limit of runs allows. It becomes smaller."""
        chosen = []
        for pack in packs(runs, agenda.planned, self.options.width, agenda.place):
            if self.limit is not None:
                if self.limit <= 0:
                    break
                if not pack.begun:
                    pack = replace(pack, runs=pack.runs[: self.limit])
                self.limit -= sum(run.id in agenda.open for run in pack.runs)
            chosen.append(pack)
        return chosen

    def command(self, agenda: Agenda, pack: PlannedPack) -> list[str]:
        """The words of the command that trains a pack."""
        files = [ticket_file(agenda.place(run).path.parent.absolute(), run.id) for run in pack.runs]
        return [*program_words(), "train", f"--ticket={','.join(map(str, files))}", *self.options.train]

    def again(self) -> list[str]:
        """The words of this command."""
        return [*program_words(), *self.options.sweep]
