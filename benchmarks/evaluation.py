"""What an evaluation costs beside the model: data that go to the device, statistics that come back.

    python benchmarks/evaluation.py

For each size: milliseconds to put the data of a further run on the device; milliseconds of an evaluation in one dispatch; and bytes and
milliseconds of the statistics that a dispatch returns. Medians but for the evaluation.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from addnorm_exp import tasks
from addnorm_exp.config import Config, override
from addnorm_exp.train.programs import program

CORPUS_BYTES = 20_000_000
BASE = {"model.depth": 2, "model.width": 64, "model.num_heads": 4, "execution.diagnostics": False}
SIZES = (
    {"seq_len": 128, "eval.sequences": 200, "batch_size": 16},
    {"seq_len": 128, "eval.sequences": 2000, "batch_size": 16},
    {"seq_len": 512, "eval.sequences": 450, "batch_size": 8},
)


def milliseconds(act: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        jax.block_until_ready(act())
        times.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(times)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text"
        path.write_bytes(np.random.default_rng(0).integers(97, 123, CORPUS_BYTES, np.uint8).tobytes())
        for size in SIZES:
            config = override(Config(), {**BASE, **size, "data.path": str(path)}, "benchmark")
            experiment, data = tasks.resolve(config), tasks.load(config)
            compiled = program(experiment.shape)
            placed = compiled.put(data)
            weights = compiled.init(experiment.hypers).weights
            compiled.evaluate(weights, placed.val, 0)  # compiles
            evaluation = milliseconds(lambda: compiled.evaluate(weights, placed.val, 0), 1)  # noqa: B023
            again = milliseconds(lambda: [(s.val.parts, s.test.parts) for s in (compiled.put(data),)], 9)  # noqa: B023
            rows = jax.device_put(np.zeros((2, placed.val.micro_batches, size["batch_size"]), np.float32))
            back = milliseconds(lambda: np.array(rows), 9)  # noqa: B023
            print(
                f"{size}: put {again:.2f} ms, evaluation {evaluation:.0f} ms, statistics {rows.nbytes} bytes {back:.3f} ms"
            )


if __name__ == "__main__":
    main()
