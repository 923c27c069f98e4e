"""One optimiser step, and N of them in one dispatch: pure functions of (state, hypers, data)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from addnorm_exp.experiment import Hypers, Shape
from addnorm_exp.nn.functional import Parameters
from addnorm_exp.residual import Context
from addnorm_exp.residual.init import Spec
from addnorm_exp.tasks.task import Carried, Share, Task
from addnorm_exp.train.optimisers import Optimiser, make_optimiser
from addnorm_exp.train.optimisers.optimiser import update
from addnorm_exp.train.schedule import learning_rate

CAUSES = ("", "non-finite loss", "non-finite gradient", "loss above the bound")
DROPOUT_STREAM = 1  # folded into the run's key; initial values use paths, batches the data seed's own stream


ModelWeights = dict[str, jax.Array]  # parameters, and what the task carries, by path


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Everything needed to resume. `step` counts finished updates.

    `cause` is an index into CAUSES, 0 while the run is sound. The first cause stays: after it, `step` no longer increases, `value` is the
    loss or the gradient norm that ended the run, and parameters and the optimiser's state are meaningless.
    """

    parameters: Parameters
    carried: Carried
    optimiser: Any  # its state
    step: jax.Array
    cause: jax.Array
    value: jax.Array

    @property
    def weights(self) -> ModelWeights:
        """What an evaluation depends on, and what a finished run keeps: the parameters, and what the task carries."""
        return {**self.parameters, **self.carried}


Metrics = dict[str, Any]
TrainStep = Callable[..., tuple[TrainState, Metrics]]


def apart(weights: ModelWeights, specs: Mapping[str, Spec]) -> tuple[Parameters, Carried]:
    """The parameters, which have `specs`, and what the task carries."""
    parameters = {path: weights[path] for path in specs}
    return parameters, {path: value for path, value in weights.items() if path not in specs}


def initial_state(task: Task, hypers: Hypers, optimiser: Optimiser) -> TrainState:
    drawn = task.model.init(hypers["seed"], {"gain": hypers["init.gain"], "std": hypers["init.std"]})
    parameters = task.scheme.projected(task.model.specs, drawn)
    # Three arrays, not one: a donated state may not hold a buffer twice.
    step, cause, value = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32)
    carried = task.carried()
    assert carried.keys().isdisjoint(parameters)
    return TrainState(parameters, carried, optimiser.init(task.model.specs, parameters), step, cause, value)


def make_step(shape: Shape, task: Task, shard: Callable[[Any], Any]) -> TrainStep:
    """`step(state, hypers, data, recorded) → state, metrics`.

    Metrics: the objective under its name, sums of the task's own (`Share.statistics`), grad_norm, lr, and with diagnostics per site
    (sites,) stream_rms, branch_ratio, grad_stream and per tensor (tensors,) grad_weight, update_ratio, weight_rms; the last two are
    zero unless `recorded`, a scalar, is true.
    """
    specs, gradients, optimiser = task.model.specs, _gradients(shape, task, shard), make_optimiser(shape)
    (objective,) = task.objectives
    trivial = math.inf if objective.trivial is None else objective.trivial

    def step(state: TrainState, hypers, data, recorded: Any = True) -> tuple[TrainState, Metrics]:
        share, (grads, taps) = gradients(state, hypers, data)
        loss = share.value
        # In the order of `specs`, which names the record's columns: inside jit a dict is sorted, block 10 before 2.
        squares = {path: jnp.sum(jnp.square(grads[path])) for path in specs}
        grad_norm = jnp.sqrt(sum(squares.values()))
        if shape["optim.clip"]:
            factor = jnp.minimum(1.0, hypers["optim.clip"] / (grad_norm + 1e-6))
            grads = {path: grad * factor for path, grad in grads.items()}
        lr = learning_rate(shape["optim.schedule"], state.step, hypers)
        updates, after = update(optimiser, specs, state.parameters, grads, state.optimiser, lr, hypers)
        sound = state.cause == 0
        cause = jnp.where(sound, _cause(loss, grad_norm, hypers["divergence.bound"] * trivial), state.cause)
        # The arrays of a diverged run are useless, so they are not protected from the bad update: a select over the whole state would
        # copy it in every step. Count, cause and value are protected.
        updated = {path: value + updates[path] for path, value in state.parameters.items()}
        moved = TrainState(
            parameters=task.scheme.projected(specs, updated),
            carried=share.carried,
            optimiser=after,
            step=state.step + (cause == 0).astype(jnp.int32),
            cause=cause,
            value=jnp.where(sound, jnp.where(cause == 2, grad_norm, loss), state.value),
        )
        metrics: Metrics = {objective.name: loss, "grad_norm": grad_norm, "lr": lr}
        if repeated := metrics.keys() & share.statistics.keys():
            raise ValueError(f"statistics of a task may not be called {', '.join(sorted(repeated))}")
        metrics |= share.statistics
        if shape["execution.diagnostics"]:
            ordered = [state.parameters[path] for path in specs], [updates[path] for path in specs]
            metrics |= share.diagnostics
            metrics["grad_stream"] = jnp.sqrt(taps)
            metrics["grad_weight"] = jnp.sqrt(jnp.stack(list(squares.values())))
            metrics |= jax.lax.cond(recorded, _weights, _no_weights, *ordered)
        return moved, metrics

    return step


def _gradients(shape: Shape, task: Task, shard: Callable[[Any], Any]):
    """`gradients(state, hypers, data) → share, (gradients, taps)` of the step's batch: the sum over its micro-batches; of diagnostics, the
    mean.

    Taps are squared norms by site (residual/taps.py).
    """
    accumulate, drops, drops_paths = shape["optim.accumulate"], shape["model.dropout"], shape["model.drop_path"]
    (objective,) = task.objectives

    def gradients(state: TrainState, hypers, data) -> tuple[Share, tuple[Parameters, jax.Array]]:
        key = jax.random.fold_in(jax.random.key(hypers["seed"], impl="threefry2x32"), DROPOUT_STREAM)
        context = Context(
            step=state.step,
            key=jax.random.fold_in(key, state.step) if drops or drops_paths else None,
            dropout=hypers["model.dropout"] if drops else None,
            drop_path=hypers["model.drop_path"] if drops_paths else None,
            train=True,
            diagnostics=shape["execution.diagnostics"],
        )
        probes = jnp.zeros(len(task.labels), jnp.float32)
        batch = task.batch(data, hypers["data.seed"], state.step)
        # Known before differentiation, and a constant in it if it is a Python number.
        weight = objective.weight(batch)

        def value(parameters: Parameters, probes: jax.Array, part, carried: Carried, context: Context):
            share = objective.loss(parameters, probes, part, weight, carried, context)
            return share.value, share

        differentiate = traced_once(jax.grad(value, argnums=(0, 1), has_aux=True))
        if accumulate == 1:
            grads, share = differentiate(state.parameters, probes, shard(batch), state.carried, context)
            return share, grads
        micro = jax.tree.map(lambda x: x.reshape(accumulate, -1, *x.shape[1:]), batch)

        def add(carry, inputs):
            total, carried = carry
            number, part = inputs
            grads, share = differentiate(state.parameters, probes, shard(part), carried, context.fold(number))
            return (jax.tree.map(jnp.add, total, (replace(share, carried={}), grads)), share.carried), None

        first = jax.tree.map(lambda x: x[0], micro)
        grads, share = jax.eval_shape(differentiate, state.parameters, probes, first, state.carried, context)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (replace(share, carried={}), grads))
        numbered = jnp.arange(accumulate, dtype=jnp.int32), micro
        ((total, grads), carried), _ = jax.lax.scan(add, (zeros, state.carried), numbered)
        means = {name: value / accumulate for name, value in total.diagnostics.items()}
        return replace(total, diagnostics=means, carried=carried), grads

    return gradients


def _cause(loss: jax.Array, grad_norm: jax.Array, bound: jax.Array) -> jax.Array:
    """The index into CAUSES if this update ends the run, else 0."""
    infinite = jnp.where(jnp.isfinite(loss), jnp.where(jnp.isfinite(grad_norm), 0, 2), 1)
    return jnp.where((infinite == 0) & (loss > bound), 3, infinite).astype(jnp.int32)


def _weights(parameters: list[jax.Array], updates: list[jax.Array]) -> Metrics:
    weight = jnp.stack([jnp.linalg.norm(value) for value in parameters])
    update = jnp.stack([jnp.linalg.norm(value) for value in updates])
    root = jnp.sqrt(jnp.array([value.size for value in parameters], jnp.float32))
    # A tensor that is still 0 (a bias, ReZero's a) has no ratio. It is 0 here, because JAX_DEBUG_NANS stops at a NaN, and NaN in the
    # record (runs/columns.py).
    return {
        "update_ratio": jnp.where(weight > 0, update, 0.0) / jnp.where(weight > 0, weight, 1.0),
        "weight_rms": weight / root,
    }


def _no_weights(parameters: list[jax.Array], updates: list[jax.Array]) -> Metrics:
    del updates
    return dict.fromkeys(("update_ratio", "weight_rms"), jnp.zeros(len(parameters), jnp.float32))


def traced_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which keeps its trace: whoever asks for the shapes of its result and then calls it traces it once. The operations
    are those of the function itself, in the program that calls it."""
    return jax.jit(function, inline=True)


def make_chunk(step: TrainStep, length: int) -> Callable[..., tuple[TrainState, Metrics]]:
    """`chunk(state, hypers, data, count, recorded) → state, metrics of every step`, each with a leading axis of `length`.

    Runs `count ≤ length` steps (traced: a remainder needs no separate program); the other rows are zero. `recorded`, bool (length,),
    says which steps are rows of the per-layer record.

    Nothing here depends on the state, so a run that diverges computes on to the end of the chunk: as one of several lanes it then neither
    stops nor changes the others, and no loop or branch has to select between whole states.
    """
    step = traced_once(step)

    def chunk(state: TrainState, hypers, data, count, recorded):
        shapes = jax.eval_shape(step, state, hypers, data, recorded[0])[1]
        rows = jax.tree.map(lambda x: jnp.zeros((length, *x.shape), x.dtype), shapes)

        def once(number, carry):
            state, rows = carry
            state, metrics = step(state, hypers, data, recorded[number])
            return state, jax.tree.map(lambda row, value: row.at[number].set(value), rows, metrics)

        return jax.lax.fori_loop(0, count, once, (state, rows))

    return chunk
