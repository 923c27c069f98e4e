"""Which schemes of a plan are the same function: two rows of a table that differ only in name and initial values.

Two schemes are compared if their parameters have the same paths and shapes, at the depth of their runs. Every parameter is drawn
from N(0, 1) by its path, the embedding is scaled as under one init law, and the logits and gradients of two sequences are compared. The
model is narrow (two heads of 16). No constant of a scheme or of a norm makes two functions equal at one width that differ at another,
and all sizes (width, head, hidden units, vocabulary, length) differ from one another, so that tensors with equal shapes here have
equal shapes at the runs' width. Operations run one by one: no model is compiled as a whole.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from addnorm_exp.config.schema import Config, InitConfig, ModelConfig
from addnorm_exp.errors import to_stderr
from addnorm_exp.experiment import Experiment
from addnorm_exp.residual import Context, Scheme
from addnorm_exp.residual.init import path_hash
from addnorm_exp.runs.caveats import function_id
from addnorm_exp.tasks import make_task, resolve
from addnorm_exp.tasks.task import Task

HEADS, HEAD_SIZE, LENGTH, SEQUENCES = 2, 16, 8, 2
TOLERANCE = 1e-5  # of the largest logit
GRADIENT_TOLERANCE = 1e-3  # of the largest gradient; a stopped gradient differs by far more
MOST_BLOCKS = 600  # of all models together; 53 schemes of four blocks are 212
STEP = 1  # of coefficients that grow with time: at step 0 a branch may be off


@dataclass(frozen=True)
class Twins:
    """`groups` are sets of ids (`function_of`) that are the same function; `among` are the ids that were compared."""

    among: frozenset[str] = frozenset()
    groups: tuple[tuple[str, ...], ...] = ()
    skipped: int = 0  # schemes of models too deep to compare


def function_of(experiment: Experiment) -> str:
    """The id of the function that runs of this experiment train."""
    return function_id(experiment.digest, experiment.flat)


def find(
    experiments: Iterable[Experiment],
    known: Twins | None = None,
    say: Callable[[str], None] = to_stderr,
    ask: Callable[..., Any] = lambda function, *arguments: function(*arguments),
) -> Twins:
    """The twins among the schemes of these experiments; `known` if that has compared them all. `say` is told before a comparison; `ask`
    calls a function where there is a device."""
    candidates = _candidates(experiments)
    ids = frozenset(id for schemes in candidates.values() for id in schemes)
    if known is not None and ids <= known.among:
        return known
    total = sum(model.depth * len(schemes) for model, schemes in candidates.items())
    if total > MOST_BLOCKS:
        return Twins(skipped=len(ids))
    groups = [group for schemes in candidates.values() for group in _comparable(schemes)]
    if not groups:
        return Twins(ids)
    say("checking which schemes are the same function…")
    return Twins(ids, ask(equal, groups))


def equal(groups: Iterable[Mapping[str, Config]]) -> tuple[tuple[str, ...], ...]:
    """The sets of ids that are the same function, in groups of configs whose models have the same tensors."""
    with _by_operation():
        classes = [members for configs in groups for members in _classes(configs)]
    return tuple(members for members in classes if len(members) > 1)


@contextmanager
def _by_operation() -> Iterator[None]:
    """Operation by operation, on the CPU if this process has one, and whatever JAX's switches say of implicit transfers."""
    try:
        device = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves it out
        device = jax.local_devices()[0]
    with jax.default_device(device), jax.default_matmul_precision("highest"), jax.transfer_guard("allow"):
        yield


def _candidates(experiments: Iterable[Experiment]) -> dict[ModelConfig, dict[str, Config]]:
    """For each model, the narrow config of each scheme by the id of its function."""
    by_model: dict[ModelConfig, dict[str, Config]] = {}
    distinct: dict[Hashable, Experiment] = {}
    for each in experiments:
        distinct.setdefault((each.digest, each.config.model), each)
    for each in distinct.values():
        by_model.setdefault(each.config.model, {}).setdefault(function_of(each), _narrow(each.config))
    return {
        model: schemes
        for model, schemes in by_model.items()
        if len({(c.scheme, c.schemes) for c in schemes.values()}) > 1
    }


def _narrow(config: Config) -> Config:
    heads = min(HEADS, config.model.num_heads)
    model = replace(
        config.model,
        num_heads=heads,
        width=heads * HEAD_SIZE,
        dropout=0.0,
        compute_dtype="float32",
        matmul_precision="highest",
    )
    execution = replace(config.execution, scan_layers="off", attention="einsum")
    return replace(config, model=model, init=InitConfig(law="xavier"), seq_len=LENGTH, execution=execution)


def _comparable(schemes: dict[str, Config]) -> list[dict[str, Config]]:
    """For one model: the configs by id that could be the same function, since they have the same tensors and train them alike. In the
    plan's order; groups of one scheme are left out."""
    groups: dict[Hashable, dict[str, Config]] = {}
    names: dict[Hashable, set[tuple[str, ...]]] = {}
    for id, config in schemes.items():
        task = make_task(resolve(config).shape)
        tensors = frozenset((path, spec.shape) for path, spec in task.model.specs.items())
        key = tensors, *_beside_the_logits(task.scheme)
        groups.setdefault(key, {})[id] = config
        names.setdefault(key, set()).add(_names(task.scheme))
    return [configs for key, configs in groups.items() if len(names[key]) > 1]


def _beside_the_logits(scheme: Scheme) -> tuple[Hashable, ...]:
    """What a scheme does in training that neither its logits nor their gradients show."""
    projected = {each.project.identity for each in scheme.members if each.project}
    return scheme.around.z_loss, scheme.around.drop_path, frozenset(projected)


def _names(scheme: Scheme) -> tuple[str, ...]:
    """Of the scheme and those of its stacks."""
    return (scheme.name, *(f"{stack} {each.name}" for stack, each in scheme.stacks))


def _classes(configs: Mapping[str, Config]) -> list[tuple[str, ...]]:
    """Classes of configs whose models have equal logits and gradients; a class may have one member."""
    tasks = {id: make_task(resolve(config).shape) for id, config in configs.items()}
    values = {id: np.asarray(_logits(task, _parameters(task))) for id, task in tasks.items()}
    gradients: dict[str, np.ndarray] = {}
    classes: list[list[str]] = []
    for id, logits in values.items():
        for members in classes:
            first = members[0]
            if not _near(logits, values[first], TOLERANCE):
                continue
            for each in (first, id):
                if each not in gradients:
                    gradients[each] = _gradients(tasks[each])
            if _near(gradients[id], gradients[first], GRADIENT_TOLERANCE):
                members.append(id)
                break
        else:
            classes.append([id])
    return [tuple(members) for members in classes]


def _near(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> bool:
    """Whether two arrays agree; an array that overflowed agrees with none."""
    scale = np.abs(theirs).max(initial=0.0)
    return bool(np.isfinite(scale) and np.abs(ours - theirs).max(initial=0.0) <= tolerance * scale)


def _parameters(task: Task) -> dict[str, jax.Array]:
    return {
        path: jnp.asarray(np.random.default_rng(path_hash(path)).standard_normal(spec.shape), jnp.float32)
        for path, spec in task.model.specs.items()
    }


def _logits(task: Task, parameters: dict[str, jax.Array]) -> jax.Array:
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 256, (SEQUENCES, LENGTH)), jnp.int32)
    context = Context(step=jnp.int32(STEP), batch=SEQUENCES)
    return task.outputs(parameters, tokens, context)


def _gradients(task: Task) -> np.ndarray:
    """The gradients of a random sum of the logits, with respect to all parameters, concatenated by path."""

    def total(parameters: dict[str, jax.Array]) -> jax.Array:
        logits = _logits(task, parameters)
        return jnp.sum(logits * jnp.asarray(np.random.default_rng(1).standard_normal(logits.shape), jnp.float32))

    by_path = jax.grad(total)(_parameters(task))
    return np.concatenate([np.ravel(by_path[path]) for path in sorted(by_path)])
