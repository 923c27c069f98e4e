"""The flag of commands that load a trained model."""

from addnorm_exp.config.flags import Flag

WEIGHTS = Flag(
    "weights",
    str,
    "final",
    "which parameters: after the last step, or the best by validation",
    "final|best",
    choices=("final", "best"),
)
