"""Our training step as `main.py train` runs it, in several configs; a worker of benchmarks/step.py."""

import functools
import hashlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from worker import Answer, serve

from addnorm_exp.config.optimisers import AdamWConfig
from addnorm_exp.config.schema import Config, EvalConfig, ExecutionConfig, ModelConfig
from addnorm_exp.data.corpus import Corpus
from addnorm_exp.nn.stack import UNROLL_BELOW
from addnorm_exp.residual import Context
from addnorm_exp.runs import machine
from addnorm_exp.tasks import resolve
from addnorm_exp.train.memory import check_devices
from addnorm_exp.train.programs import program

BASE = "ours"
PEAK_SIZE, ACCELERATED = 2048, 8192  # of the square matrices whose product measures the peak: 17 GFLOP, 1.1 TFLOP
STATE: dict[str, Any] = {}  # corpus, config by row, [config, program, hypers, data, state, step] by prepared row


def rows(base: Config) -> dict[str, Config]:
    """Row → config; every row differs from the first in one thing."""

    def execution(**changes: Any) -> Config:
        return replace(base, execution=replace(base.execution, **changes))

    unrolled = base.model.depth < UNROLL_BELOW
    kernels = []
    if jax.default_backend() != "cpu":
        kernels = ["xla", *(["einsum", "cudnn"] if base.model.compute_dtype == "bfloat16" else [])]
    return {
        BASE: base,
        "diagnostics off": execution(diagnostics=False),
        "1 step a dispatch": execution(chunk_steps=1),
        "layers scanned" if unrolled else "layers unrolled": execution(scan_layers="on" if unrolled else "off"),
        **{f"attention {kernel}": execution(attention=kernel) for kernel in kernels},
        **{name: replace(base, scheme=name) for name in ("post_ln", "pre_rms", "no_norm")},
    }


def hello(shape: dict[str, int], corpus: str, dtype: str = "float32") -> Answer:
    base = Config(
        scheme="pre_ln",
        steps=1_000_000,
        batch_size=shape["batch"],
        seq_len=shape["seq"],
        model=ModelConfig(depth=shape["depth"], width=shape["width"], num_heads=shape["heads"], compute_dtype=dtype),
        # Small, so that no scheme diverges: a run that did would stand still. The time of a step does not depend on it.
        optim=AdamWConfig(lr=1e-4, clip=1.0),
        eval=EvalConfig(sequences=1),
        execution=ExecutionConfig(scan_layers="auto"),
    )
    check_devices(resolve(base).shape)
    data = Path(corpus).read_bytes()
    tokens = np.frombuffer(data, np.uint8)
    spare = tokens[: 4 * (shape["seq"] + 1)]
    STATE.update(corpus=Corpus("synthetic", hashlib.sha256(data).hexdigest(), tokens, spare, spare), rows=rows(base))
    task = program(resolve(base).shape).task
    return {
        "rows": list(STATE["rows"]),
        "parameters": task.model.size,
        "flops_per_token": task.cost.flops_per_token,
        "versions": machine.versions(),
        "device": machine.device(),
        "git": machine.revision(),
        "execution": {"chunk_steps": base.execution.chunk_steps, "attention_every": base.execution.attention_every},
        "optim": _numbers(base),
    }


def prepare(row: str, quick: bool) -> Answer:
    """Compiles a row and warms it up."""
    config = STATE["rows"][row]
    begun = time.perf_counter()
    experiment = resolve(config)
    compiled, numbers = program(experiment.shape), experiment.hypers
    STATE[row] = [experiment, compiled, numbers, compiled.put(STATE["corpus"]), compiled.init(numbers), 0]
    if config.execution.diagnostics:
        compiled.attention(STATE[row][4].parameters, numbers, STATE[row][3], 0)
    run(row, 3 if quick else 20)
    return {"seconds": time.perf_counter() - begun}


def run(row: str, steps: int) -> Answer:
    """Seconds of that many steps with all that the training loop does on the device: chunks, the metrics read back, and attention
    statistics where they are due. Writing the record is left out."""
    experiment, compiled, numbers, data, state, step = STATE[row]
    times = experiment.timetable
    every = times.attention
    aim = step + steps
    jax.block_until_ready(state)
    begun = time.perf_counter()
    while step < aim:
        ends = (aim, *((step // period + 1) * period for period in (times.chunk, every) if period))
        state, metrics = compiled.train(state, numbers, data, times.recorded(step + 1, min(ends) - step))
        jax.device_get((metrics, state.cause))
        step = min(ends)
        if every and step % every == 0:
            compiled.attention(state.parameters, numbers, data, step)
    seconds = time.perf_counter() - begun
    if int(state.step) != aim:
        raise FloatingPointError(f"{row} diverged in update {int(state.step) + 1}, so its time says nothing")
    STATE[row][4:] = [state, step]
    return {"seconds": seconds}


def peak() -> Answer:
    """FLOP/s of a large matrix product in the type that the steps compute in, best of three."""
    size = PEAK_SIZE if jax.default_backend() == "cpu" else ACCELERATED
    if "peak" not in STATE:
        dtype = STATE["rows"][BASE].model.compute_dtype
        a, b = (jax.random.normal(jax.random.key(n), (size, size), dtype) for n in range(2))
        STATE["peak"] = (jax.jit(functools.partial(jnp.matmul, precision="highest")), a, b)
        jax.block_until_ready(STATE["peak"][0](a, b))
    product, a, b = STATE["peak"]
    best = float("inf")
    for _ in range(3):
        begun = time.perf_counter()
        jax.block_until_ready(product(a, b))
        best = min(best, time.perf_counter() - begun)
    return {"flops": 2.0 * size**3 / best}


def check(folder: str, steps: int) -> Answer:
    """Writes into `folder` what the twin needs to repeat us: weights before and after `steps` updates, the batches, the first batch's
    logits, and each step's loss and gradient norm. Decay, warmup and clipping are such that they show in so few steps."""
    base = STATE["rows"][BASE]
    config = replace(base, steps=2 * steps, optim=replace(base.optim, lr=1e-3, warmup=2, weight_decay=1.0, clip=0.5))
    experiment = resolve(config)
    compiled, numbers = program(experiment.shape), experiment.hypers
    data, state = compiled.put(STATE["corpus"]), compiled.init(numbers)
    # Copies: the state is donated. Biases and gains move off 0 and 1, where one that is left out would not show.
    noise = np.random.default_rng(0)
    moved = {
        path: value + 0.1 * noise.standard_normal(value.shape, np.float32) if value.ndim == 1 else value
        for path, value in state.parameters.items()
    }
    state = replace(state, parameters=jax.device_put(moved, compiled.replicated))
    seed = jnp.asarray(numbers["data.seed"])
    batches = [jax.device_get(compiled.task.batch(data.train, seed, jnp.int32(n))) for n in range(steps)]
    arrays = {f"start/{path}": np.array(value) for path, value in moved.items()}
    arrays |= {"inputs": np.stack([x for x, _ in batches]), "targets": np.stack([y for _, y in batches])}
    arrays["logits"] = np.array(_logits(compiled, moved, batches[0][0]))
    state, metrics = compiled.train(state, numbers, data, experiment.timetable.recorded(1, steps))
    arrays |= {f"end/{path}": np.array(value) for path, value in state.parameters.items()}
    arrays |= {name: np.array(metrics[name])[:steps] for name in ("loss", "grad_norm")}
    _write(Path(folder), arrays)
    (Path(folder) / "optim.json").write_text(json.dumps(_numbers(config)))
    return {name: arrays[name].tolist() for name in ("loss", "grad_norm")}


def _numbers(config: Config) -> dict[str, float]:
    """The optimiser's numbers, for the twin."""
    return {key: value for key, value in vars(config.optim).items() if not isinstance(value, str)} | {
        "steps": config.steps
    }


def _logits(compiled, parameters, inputs):
    model = compiled.task.model.bind(parameters)
    probes = jnp.zeros(len(compiled.task.labels))
    with jax.default_matmul_precision(compiled.shape["model.matmul_precision"]):
        return model(jnp.asarray(inputs), Context(batch=inputs.shape[0]), probes)[0]


def _write(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    index, offset = {}, 0
    with open(folder / "arrays.bin", "wb") as file:
        for name, array in arrays.items():
            index[name] = {"shape": array.shape, "dtype": str(array.dtype), "offset": offset}
            offset += file.write(np.ascontiguousarray(array).tobytes())
    (folder / "arrays.json").write_text(json.dumps(index))


if __name__ == "__main__":
    serve({"hello": hello, "prepare": prepare, "run": run, "peak": peak, "check": check})
