"""Optimisers: each through the real step in float64 against its equations in NumPy, routing, factors, lanes, state, resume."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from of_config import hypers, make_step, minimum_footprint, optimiser, run, shape
from test_jax_switches import SETS, switched
from training import assert_equal_runs, config, interrupt, losses

from addnorm_exp.config.optimisers import OPTIMISERS as KEYS
from addnorm_exp.errors import UserError
from addnorm_exp.residual import catalogue
from addnorm_exp.residual.init import Factors, Init, Spec
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.tasks.task import Share
from addnorm_exp.train.optimisers import OPTIMISERS
from addnorm_exp.train.optimisers.muon import is_orthogonalised
from addnorm_exp.train.optimisers.optimiser import state_bytes

# A wide, two square and a tall matrix inside blocks, one of a single column, and what stands outside.
SHAPES = {
    "blocks/0/in/kernel": (2, 5),
    "blocks/0/mix/kernel": (5, 5),
    "blocks/1/mix/kernel": (5, 5),
    "blocks/1/out/kernel": (5, 3),
    "blocks/1/gate/kernel": (5, 1),
    "blocks/0/gain": (5,),
    "blocks/0/bias": (5,),
    "blocks/1/alpha": (),
    "blocks/1/streams": (3, 3),
    "embedding/tokens": (3, 5),
    "head/kernel": (3, 5),
}
GROUPS = {"kernel": "matrix", "gain": "gain", "bias": "bias", "alpha": "coefficient", "streams": "coefficient"}
ORTHOGONAL = ("blocks/0/in/kernel", "blocks/0/mix/kernel", "blocks/1/mix/kernel", "blocks/1/out/kernel")


class Model:
    def __init__(self, factors):
        self.specs = {
            path: Spec(
                size,
                Init("normal", 0.5),
                GROUPS.get(path.split("/")[-1], "embedding"),
                factors.get(path, Factors()),
                part="sublayer" if path.startswith("blocks/") else "ends",
            )
            for path, size in SHAPES.items()
        }

    def init(self, seed, hypers):
        g = np.random.default_rng(int(seed))
        return {path: jnp.asarray(g.normal(size=size, scale=0.7)) for path, size in SHAPES.items()}


class Blocks(toy.Toy):
    """The toy with these tensors."""

    def __init__(self, batch_size: int = 4, factors=None):
        super().__init__(batch_size)
        self.model = Model(factors or {})

    def batch(self, corpus, seed, step):
        first = seed.astype(jnp.int32) + step * self.batch_size
        return jax.lax.dynamic_slice(corpus, (first, jnp.int32(0)), (self.batch_size, 3))  # of one type under x64 too

    def loss(self, parameters, probes, part, weight, carried, context):
        diagnostics = {"stream_rms": jnp.mean(part)[None], "branch_ratio": jnp.ones(1)}
        return Share(jnp.sum(errors(parameters, part)) / weight, diagnostics=diagnostics, carried=carried)


@jax.jit
@jax.grad
def gradient(p, batch):
    return jnp.mean(errors(p, batch))


def errors(p, batch):
    """Squared, of each row."""
    hidden = jnp.tanh(batch[:, :2] @ p["blocks/0/in/kernel"]) * p["blocks/0/gain"][None] + p["blocks/0/bias"][None]
    hidden = hidden + jnp.tanh(hidden @ p["blocks/0/mix/kernel"])
    hidden = hidden + jnp.tanh(hidden @ p["blocks/1/mix/kernel"]) * (hidden @ p["blocks/1/gate/kernel"])
    kind = (jnp.abs(batch[:, 0] * 7).astype(jnp.int32)) % 3
    out = (hidden @ p["blocks/1/out/kernel"]) @ p["blocks/1/streams"] @ p["head/kernel"]
    return (p["blocks/1/alpha"] * jnp.sum(out * p["embedding/tokens"][kind], axis=-1) - batch[:, 2]) ** 2


# The equations, in NumPy and float64. Each returns what an update subtracts at a learning rate of 1, of a gradient `g` at step `t`, from 1;
# `m` is a dict of its own for each tensor.


def adamw(path, theta, g, t, m, k):
    m["m"] = k["beta1"] * m.get("m", 0.0) + (1 - k["beta1"]) * g
    m["v"] = k["beta2"] * m.get("v", 0.0) + (1 - k["beta2"]) * g**2
    corrected = np.sqrt(m["v"]) / np.sqrt(1 - k["beta2"] ** t)
    return m["m"] / (1 - k["beta1"] ** t) / (corrected + k["eps"] * k.get("factor", 1.0))


def sgd(path, theta, g, t, m, k):
    m["sum"] = k["momentum"] * m.get("sum", 0.0) + g
    return k["momentum"] * m["sum"] + g if k["nesterov"] else m["sum"]


def lion(path, theta, g, t, m, k):
    former = m.get("m", 0.0)
    m["m"] = k["beta2"] * former + (1 - k["beta2"]) * g
    return np.sign(k["beta1"] * former + (1 - k["beta1"]) * g)


def adafactor(path, theta, g, t, m, k):
    decay, square = 1 - t ** -k["decay_exponent"], g**2 + k["eps"]
    if g.ndim == 2 and min(g.shape) >= k["factored_size"]:
        m["rows"] = decay * m.get("rows", 0.0) + (1 - decay) * square.mean(axis=1)
        m["columns"] = decay * m.get("columns", 0.0) + (1 - decay) * square.mean(axis=0)
        v = np.outer(m["rows"], m["columns"]) / m["rows"].mean()
    else:
        v = m["v"] = decay * m.get("v", 0.0) + (1 - decay) * square
    u = g / np.sqrt(v)
    u = u / max(1.0, np.sqrt(np.mean(u**2)) / k["update_clip"])
    return u * max(1e-3, np.sqrt(np.mean(theta**2))) if k["parameter_scale"] else u


def muon(path, theta, g, t, m, k):
    if path not in ORTHOGONAL:
        return adamw(path, theta, g, t, m, k)
    mu = k["momentum"]
    m["m"] = mu * m.get("m", 0.0) + (1 - mu) * g
    x = mu * m["m"] / (1 - mu ** (t + 1)) + (1 - mu) * g / (1 - mu**t) if k["nesterov"] else m["m"] / (1 - mu**t)
    x = x / (np.sqrt(np.sum(x**2)) + 1e-8)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return k["update_rms"] * np.sqrt(max(theta.shape)) * x


RULES = {rule.__name__: rule for rule in (adamw, sgd, lion, adafactor, muon)}
CASES = [
    ("adamw", {"beta1": 0.8, "beta2": 0.9, "eps": 1e-3}),
    ("adamw", {}),
    ("sgd", {}),
    ("sgd", {"nesterov": True, "momentum": 0.7}),
    ("sgd", {"momentum": 0.0}),
    ("lion", {}),
    ("adafactor", {"factored_size": 3}),
    ("adafactor", {"parameter_scale": False, "update_clip": 0.7, "decay_exponent": 0.6, "eps": 1e-4}),
    ("muon", {"beta2": 0.9}),
    ("muon", {"nesterov": False, "momentum": 0.8, "update_rms": 0.5}),
]


# The program computes in float64 what it is given in float64, beside what it makes in float32 itself.
WIDE = {"jax_enable_x64": True, "jax_numpy_dtype_promotion": "standard"}


def in_float64(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def of(name: str, keys=None, **changes):
    own = {f"optim__{key}": value for key, value in (keys or {}).items()}
    return config(batch_size=4, optim__name=name, execution__diagnostics=False, **own, **changes)


def trained(asked, task, steps: int):
    """Parameters before the first update and after `steps`, in float64, and the batches."""
    data = np.asarray(toy.rows(4 * steps), np.float64)
    with switched(WIDE):
        numbers = in_float64(hypers(asked))
        state = in_float64(toy.start(task=task, **{"optim__name": asked.optim.name} | _own(asked)))
        before = {path: np.asarray(value) for path, value in state.parameters.items()}
        step = jax.jit(make_step(asked, task))
        for _ in range(steps):
            state, _ = step(state, numbers, jnp.asarray(data))
        return before, {path: np.asarray(value) for path, value in state.parameters.items()}, data


def _own(asked):
    return {f"optim__{key}": value for key, value in vars(asked.optim).items() if key not in vars(KEYS["adamw"]())}


def by_hand(asked, theta, data, steps: int, factors):
    """The same from the equations."""
    k = {name: value for name, value in vars(asked.optim).items() if not isinstance(value, str)}
    k = {name: float(np.float32(value)) if isinstance(value, float) else value for name, value in k.items()}
    theta, memory = dict(theta), {path: {} for path in theta}
    for t in range(1, steps + 1):
        with switched(WIDE):
            grads = gradient({path: jnp.asarray(x) for path, x in theta.items()}, data[4 * t - 4 : 4 * t])
        grads = {path: np.asarray(grad) for path, grad in grads.items()}
        norm = np.sqrt(sum(np.sum(grad**2) for grad in grads.values()))
        lr = k["lr"] * min(1.0, t / k["warmup"])
        for path, grad in grads.items():
            factor = factors.get(path, Factors())
            grad = grad * min(1.0, k["clip"] / (norm + 1e-6))
            step = RULES[asked.optim.name](path, theta[path], grad, t, memory[path], {**k, "factor": factor.eps})
            if path.endswith("kernel") or path == "embedding/tokens":
                step = step + k["weight_decay"] * factor.decay * theta[path]
            theta[path] = theta[path] - lr * factor.lr * step
    return theta


@pytest.mark.core
@pytest.mark.parametrize(("name", "keys"), CASES, ids=str)
def test_twenty_steps_are_the_equations_in_float64(name, keys):
    """With warmup, clipping, weight decay and factors of single tensors. AdamW's equations are PyTorch's, so this is equality with it."""
    factors = {"blocks/0/mix/kernel": Factors(lr=0.5, decay=3.0), "blocks/0/gain": Factors(lr=2.0, decay=7.0)}
    if "eps" in KEYS[name].factors:
        factors["head/kernel"] = Factors(eps=10.0)
    asked = of(
        name,
        keys,
        optim__schedule="constant",
        optim__warmup=5,
        optim__clip=0.5,
        optim__weight_decay=0.3,
        optim__lr=1e-2,
    )
    before, after, data = trained(asked, Blocks(factors=factors), 20)
    expected = by_hand(asked, before, data, 20, factors)
    for path in SHAPES:
        assert np.max(np.abs(after[path] - before[path])) > 1e-4, path
        np.testing.assert_allclose(after[path], expected[path], rtol=1e-12, atol=1e-12, err_msg=path)


SOME = ("adamw", "muon")  # of the simplest state, and of the largest


def some(name: str):
    return pytest.param(name, marks=pytest.mark.core if name in SOME else pytest.mark.full)


@pytest.mark.full
@pytest.mark.parametrize("name", map(some, OPTIMISERS))
def test_lanes_are_their_own_runs(name):
    """Two runs of unlike hypers in one vmapped chunk."""
    number = next(own for own in KEYS[name].__annotations__ if own != "name")  # the first of its own keys
    asked = [of(name, {"lr": 3e-3}, optim__clip=0.1), of(name, {number: 0.6}, seed=1, optim__clip=0.2)]
    task, numbers, data = Blocks(), [hypers(each) for each in asked], toy.rows(40)
    states = [toy.start(seed, task, optim__name=name) for seed in range(2)]
    chunk = toy.make_chunk(make_step(asked[0], task), 8)
    stack = lambda *parts: jnp.stack(parts)  # noqa: E731
    arguments = (data, np.int32(8), np.ones(8, np.bool_))
    lanes, rows = jax.jit(jax.vmap(chunk, in_axes=(0, 0, None, None, None)))(
        jax.tree.map(stack, *states), jax.tree.map(stack, *numbers), *arguments
    )
    alone, ends = jax.jit(chunk), []
    for lane in range(2):
        state, expected = alone(states[lane], numbers[lane], *arguments)
        np.testing.assert_allclose(rows["loss"][lane], expected["loss"], rtol=1e-4, err_msg=f"lane {lane}")
        for ours, theirs in zip(jax.tree.leaves(lanes), jax.tree.leaves(state), strict=True):
            np.testing.assert_allclose(ours[lane], theirs, rtol=2e-3, atol=1e-5)
        ends.append(state)
    other, _ = alone(states[1], {**numbers[1], f"optim.{number}": numbers[0][f"optim.{number}"]}, *arguments)
    moved = [np.max(np.abs(ends[1].parameters[path] - other.parameters[path])) for path in SHAPES]
    assert max(moved) > 1e-4, "the number is the lane's own"


class Squares(Blocks):
    """The sum of all squares, which promotes nothing by itself."""

    def loss(self, parameters, probes, part, weight, carried, context):
        return Share(sum(jnp.sum(x**2) for x in parameters.values()), carried=carried)


@pytest.mark.core
@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_step_promotes_nothing_unsaid(name):
    """Under strict promotion and x64 the state keeps its types, and none of them is weak: that would compile everything a second time."""
    with switched(SETS["types"]):
        task = Squares()
        task.model.init = lambda seed, hypers: {path: jnp.zeros(size, jnp.float32) for path, size in SHAPES.items()}
        state = toy.start(task=task, optim__name=name)
        jaxpr, (moved, _) = jax.make_jaxpr(make_step(of(name), task), return_shape=True)(
            state, hypers(of(name)), jnp.zeros((4, 3), jnp.float32)
        )
    before, after = (jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (state, moved))
    assert before == after
    assert not any(leaf.weak_type for leaf in jaxpr.out_avals)
    assert "f64[5" not in str(jaxpr)


PARAMETERS = sum(int(np.prod(size)) for size in SHAPES.values())
MATRICES = sum(int(np.prod(SHAPES[path])) for path in ORTHOGONAL)
STATE = {  # in numbers, each of four bytes
    "adamw": 2 * PARAMETERS,
    "sgd": PARAMETERS,
    "lion": PARAMETERS,
    "muon": MATRICES + 2 * (PARAMETERS - MATRICES),
    # Rows and columns of six tensors, the entries of the others, and a number in the place of each that a tensor has not.
    "adafactor": (10 + 10 + 8 + 8 + 8 + 6) + 6 + (10 + 5 + 5 + 5 + 1) + 2 * 5,
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_bytes_of_a_state(name):
    asked = of(name, {"factored_size": 3} if name == "adafactor" else {})
    assert state_bytes(optimiser(asked), Blocks().model.specs) == 4 * STATE[name]
    assert state_bytes(optimiser(asked), {}) == 0


def test_descent_without_momentum_keeps_nothing():
    assert state_bytes(optimiser(of("sgd", {"momentum": 0.0})), Blocks().model.specs) == 0


# Parameters of two axes or more inside blocks that Muon leaves to AdamW, by scheme and name.
LEFT_OUT = {
    "altup": {"predict"},
    "frac": {"alpha", "dynamic_beta"},
    "hyper": {"alpha", "dynamic_beta"},
    "hyper_static": {"alpha"},
    "laurel": {"down", "up"},
    "mhc": {"phi"},
    "mhc_zero": {"phi"},
}


def test_muon_takes_the_matrices_of_blocks():
    specs = Blocks().model.specs
    assert [path for path, spec in specs.items() if is_orthogonalised(spec)] == list(ORTHOGONAL)


def test_what_muon_leaves_out_of_each_scheme():
    """All matrices of attention and feed-forward are orthogonalised. Of a scheme's own parameters matrices are, coefficients are not."""
    left_out = {}
    for name in catalogue.names():
        lower = minimum_footprint(config(scheme=name))
        inside = {path: spec for block in lower.blocks for path, spec in block.items() if len(spec.shape) > 1}
        kept = {path.split("/")[-1] for path, spec in inside.items() if not is_orthogonalised(spec)}
        if kept:
            left_out[name] = kept
        plain = {spec.name: spec for spec in inside.values() if spec.part == "sublayer" and spec.group == "matrix"}
        assert plain.keys() >= {"query/kernel", "key/kernel", "up/kernel", "down/kernel"}, name
        assert all(map(is_orthogonalised, plain.values())), name
        assert not any(map(is_orthogonalised, lower.tables.values()))
    assert left_out == LEFT_OUT


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_factor_without_a_meaning_is_refused(name):
    """CompleteP and Depth-μP put one on Adam's ε from three blocks on. nGPT's, on weight decay, has one everywhere."""
    shape(config(scheme="ngpt", optim__name=name))
    shape(config(scheme="completep", model__depth=2, optim__name=name))
    if name == "adamw":
        shape(config(scheme="completep", model__depth=4))
        return
    for scheme in ("completep", "depth_mup"):
        with pytest.raises(UserError) as error:
            shape(config(scheme=scheme, model__depth=4, optim__name=name))
        assert str(error.value) == (
            f"test: scheme '{scheme}' multiplies Adam's ε by a factor, which has no meaning with optim.name='{name}'; "
            "use optim.name=adamw, or another scheme"
        )


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_has_its_keys_and_no_others(name):
    """Those of its dataclass are its hypers, its shape and what its rule reads."""
    asked = of(name)
    own = {f"optim.{key}" for key in vars(KEYS[name]())}
    assert {key for key in hypers(asked) if key.startswith("optim.")} <= own
    assert {key for key, value in shape(asked).items if key.startswith("optim.") and value} <= own


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("muon", marks=pytest.mark.core),
        *(pytest.param(name, marks=pytest.mark.full) for name in ("adafactor", "lion", "sgd")),
    ],
)
def test_a_run_learns_and_resumes_bit_for_bit(name, data, tmp_path):
    rate = {"sgd": 0.3, "adafactor": 0.1, "lion": 3e-3, "muon": 1e-2}[name]
    asked = config(optim__name=name, optim__lr=rate, **({"optim__factored_size": 8} if name == "adafactor" else {}))
    run(asked, data, RunFolder(tmp_path / "undisturbed"))
    validation = losses(tmp_path / "undisturbed", "val")
    assert validation[-1] < validation[0] - 0.1
    assert interrupt(asked, data, tmp_path / "resumed", chunks=3) == 6
    run(asked, data, RunFolder(tmp_path / "resumed"))
    assert_equal_runs(tmp_path / "undisturbed", tmp_path / "resumed")


@pytest.mark.full
@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("scheme", ["ngpt", "admin"])
def test_projection_calibration_and_micro_batches_go_with_each(scheme, name, data, tmp_path):
    asked = config(scheme=scheme, optim__name=name, optim__accumulate=2, optim__lr=3e-3)
    summary = run(asked, data, RunFolder(tmp_path))
    assert summary.status == "done"
    assert summary.val.final["loss"] < losses(tmp_path, "val")[0]
