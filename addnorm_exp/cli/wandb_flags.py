"""The flags of the W&B mirror, for the commands that train."""

from collections.abc import Callable

from addnorm_exp.config.flags import Arguments, Flag
from addnorm_exp.runs.mirror.mirror import MODES, Mirror, mode_of
from addnorm_exp.runs.mirror.window import PROJECT, Place

WANDB_FLAGS = (
    Flag(
        "wandb",
        str,
        None,
        "the mirror on W&B (docs/wandb.md); default: WANDB_MODE, else online with an API key and offline without",
        "|".join(MODES),
        choices=MODES,
    ),
    Flag("wandb_project", str, None, f"default: WANDB_PROJECT, else {PROJECT}", "NAME"),
    Flag("wandb_entity", str, None, "the person or team; default: WANDB_ENTITY, else your own", "NAME"),
)


def place_of(arguments: Arguments) -> Place:
    return Place(arguments["wandb_project"], arguments["wandb_entity"])


def mirror_of(arguments: Arguments, say: Callable[[str], None]) -> Mirror:
    return Mirror(mode_of(arguments["wandb"]), place_of(arguments), say)
