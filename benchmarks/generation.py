"""How fast a model writes text: `Trained.generate` within the window of `seq_len` tokens, and beyond it.

    python benchmarks/generation.py

For each size: seconds of the first call, which compiles, and milliseconds a token of later ones (the best of three).
"""

import time
from pathlib import Path

from addnorm_exp import tasks
from addnorm_exp.config import Config, override
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.train.programs import program
from addnorm_exp.trained.model import Trained

SIZES = (
    {"model.depth": 4, "model.width": 128, "model.num_heads": 4, "seq_len": 128},
    {"model.depth": 6, "model.width": 384, "model.num_heads": 6, "seq_len": 256},
)


def main() -> None:
    for size in SIZES:
        experiment = tasks.resolve(override(Config(), size, "benchmark"))
        model = Trained(
            RunFolder(Path("untrained")), experiment, program(experiment.shape).init(experiment.hypers).parameters, 0
        )
        length = experiment.config.seq_len
        for name, prompt, count in (("within", "The ", length - 4), ("beyond", "The " * (length // 4), 32)):
            seconds = []
            for _ in range(4):
                begun = time.perf_counter()
                model.generate(prompt, count, temperature=0.8, top_k=40)
                seconds.append(time.perf_counter() - begun)
            print(f"{size}, {name}: first {seconds[0]:.2f} s, then {1e3 * min(seconds[1:]) / count:.2f} ms a token")


if __name__ == "__main__":
    main()
