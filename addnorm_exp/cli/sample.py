"""`main.py sample RUN --prompt=TEXT`: text that a trained model writes."""

import sys
from pathlib import Path

from addnorm_exp.cli.weights_flag import WEIGHTS
from addnorm_exp.config.flags import Flag, parse
from addnorm_exp.errors import UserError

HELP = "text from a trained model: RUN --prompt=TEXT [--length=N] [--temperature=T] [--top_k=K] [--seed=S]"

FLAGS = (
    Flag("prompt", str, None, "the text to continue", "TEXT"),
    Flag("length", int, 200, "how many bytes to add", "N", minimum=1),
    Flag("temperature", float, 1.0, "divides the logits; 0 takes the most likely byte", "T", minimum=0),
    Flag("top_k", int, None, "draw from the K most likely bytes; default: from all", "K", minimum=1),
    Flag("seed", int, 0, "the same seed gives the same text", "S", minimum=0),
    WEIGHTS,
)


def run(argv: list[str]) -> int:
    arguments = parse(argv, FLAGS, command="sample", about=HELP, positionals=("RUN",))
    if not arguments["prompt"]:
        raise UserError('sample needs --prompt=TEXT, e.g. --prompt="The "')

    from addnorm_exp.trained.model import load

    model = load(Path(arguments.positionals[0]), arguments["weights"])
    text = model.generate(
        arguments["prompt"],
        arguments["length"],
        temperature=arguments["temperature"],
        top_k=arguments["top_k"],
        seed=arguments["seed"],
    )
    sys.stdout.write(f"{arguments['prompt']}{text}\n")
    return 0
