"""The flags of the W&B mirror, for the commands that train."""

from collections.abc import Callable
from pathlib import Path

from addnorm_exp.config.flags import Arguments, Flag
from addnorm_exp.runs.mirror.mirror import Mirror
from addnorm_exp.runs.mirror.settings import MODES, PROJECT, Place, check_place, mode_of

WANDB_FLAGS = (
    Flag(
        "wandb",
        str,
        None,
        "mirror runs to W&B (docs/wandb.md); default: WANDB_MODE, else online if there is an API key",
        "|".join(MODES),
        choices=MODES,
    ),
    Flag("wandb_project", str, None, f"default: WANDB_PROJECT, else {PROJECT}", "NAME"),
    Flag("wandb_entity", str, None, "the user or team; default: WANDB_ENTITY, else your own", "NAME"),
)


def place_of(arguments: Arguments) -> Place:
    return Place(arguments["wandb_project"], arguments["wandb_entity"])


def mirror_of(
    arguments: Arguments, say: Callable[[str], None], directory: Path, stopping: Callable[[], bool] = lambda: False
) -> Mirror:
    """The mirror for runs in `directory`, as the flags set it. Raises UserError for an invalid W&B setting."""
    place, mode = place_of(arguments), mode_of(arguments["wandb"])
    if mode != "disabled":
        check_place(place)
    return Mirror(mode, place, say, directory, stopping)
