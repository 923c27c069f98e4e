"""Launchers: what carries out the runs of a plan. One file a launcher, entered in the table below.

Read in this order:

    launcher    the contract: what is checked before the first run, `launch` for an agenda
    local       trains on this machine
    remote      what launchers have in common that leave the training to other processes
    print       prints the commands that train
"""

from addnorm_exp.errors import UserError, nearest
from addnorm_exp.sweep.launchers.launcher import Launcher
from addnorm_exp.sweep.launchers.local import Local
from addnorm_exp.sweep.launchers.print import Print

LAUNCHERS: dict[str, type[Launcher]] = {"local": Local, "print": Print}


def launcher_of(name: str) -> type[Launcher]:
    """The launcher of this name. Raises UserError with the nearest names if there is none."""
    if name not in LAUNCHERS:
        raise UserError(f"--launcher={name}: {nearest(name, LAUNCHERS)}")
    return LAUNCHERS[name]
