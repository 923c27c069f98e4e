"""Initial values: the stated law of every tensor, measured; keyed by path, so paired over schemes; the same however they are drawn."""

import hashlib
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bridge import VOCAB, architecture, decoder
from flax import nnx
from reference import norm_free
from reference import schemes as reference
from sample import FEW, REPRESENTATIVE, third

from addnorm_exp.nn.functional import Functional
from addnorm_exp.nn.models import Classifier, Decoder
from addnorm_exp.probe import draws as known
from addnorm_exp.residual import catalogue
from addnorm_exp.residual import init as laws
from addnorm_exp.residual.init import DECAYED, Factors, Init, Spec

NAMES = catalogue.names()
WIDTH, WIDE, TABLE, LENGTH = 96, 160, 256, 64  # large enough to measure a law, all fan-ins and fan-outs distinct
SHAPES = {
    **dict.fromkeys(("query", "key", "value", "out"), (WIDTH, WIDTH)),
    **dict.fromkeys(("up", "gate"), (WIDTH, WIDE)),
    "down": (WIDE, WIDTH),
}


def large(name: str, **changes) -> Functional[Decoder]:
    arch = architecture(depth=3, width=WIDTH, hidden=WIDE, activation="swiglu", **changes)
    return Functional(lambda rngs: Decoder(catalogue.get(name), arch, TABLE, LENGTH, tied=False, rngs=rngs))


# What the papers put on the law of a matrix of a decoder of L blocks, by hand: scheme → (role, block from 1, L) → factor.
MULTIPLIERS = {
    "deepnorm": lambda role, l, L: reference.deepnorm_single(L)[1] if role in ("value", "out", "up", "down") else 1.0,
    "sandwich_ln": lambda role, l, L: (2 * L) ** -0.5 if role in ("out", "down") else 1.0,
    "fixup": lambda role, l, L: norm_free.fixup_multipliers(2 * L).get(role, 1.0),
    "t_fixup": lambda role, l, L: T_FIXUP[role](L) if role in T_FIXUP else 1.0,
    "sub_ln": lambda role, l, L: math.log(2 * L) ** 0.5 if role in ("value", "out", "up", "down") else 1.0,
    "ds_init": lambda role, l, L: l**-0.5 if role in SHAPES else 1.0,
    "scale_norm": lambda role, l, L: (2 / 5) ** 0.5 if role in ("query", "key", "value", "out") else 1.0,
    "simplified": lambda role, l, L: 0.0 if role in ("query", "value") else 1.0,
}
# T-Fixup of an encoder, and of a decoder by itself, of N blocks.
T_FIXUP = dict.fromkeys(("value", "out", "up", "down"), lambda N: 0.67 * N**-0.25) | {
    "embedding": lambda N: (9 * N) ** -0.25
}
MULTIPLIERS |= dict.fromkeys(("gpt2", "hybrid_norm", "hybrid_norm_star", "derf"), MULTIPLIERS["sandwich_ln"])
MULTIPLIERS["b2t"] = lambda role, l, L: L**-0.5 if role in SHAPES else 1.0
# First values that are not 1 for a gain and 0 for all else: scheme → ending of the path → value.
FIRST: dict[str, dict[str, float]] = {"layerscale": {"/scale": 0.1}}
FIRST |= {"fixup": {"/scale": 1.0}, "gtrxl": {"connection/bias": 2.0}, "highway": {"connection/bias": -2.0}}
_ONES = {"/value/rest": 1.0, "/shaping/identity": 1.0, "/scales/attention": 1.0, "attention/connection/scale": 1.0}
FIRST["simplified"] = {**_ONES, "/shaping/softmax": 1.0, "/shaping/uniform": 1.0, "/scales/feed_forward": 0.1}
FIRST["value_skipinit"] = {**_ONES, "feed_forward/connection/scale": 0.1, "/skip": 1.0}
FIRST |= {
    "admin": {"connection/skip": 1.0},  # before it is set from data
    "swin_v2": {"branch/gain": 0.0, "/temperature": math.log(10.0)},
    "normformer": {"/skip": 1.0, "/head_scale": 1.0},
}
FIRST["altup"] = {"/correct": 1.0}
FIRST |= {name: {"/alpha": 1.0, "/scale": WIDTH**0.5} for name in ("dyt", "derf")}
FIRST["hyper_static"] = {"/beta": 1.0}
FIRST |= {name: {"/beta": 1.0, "/scale_alpha": 0.01, "/scale_beta": 0.01} for name in ("hyper", "frac")}
FIRST |= {name: {"/scale": 0.01} for name in ("mhc", "mhc_zero")}
FIRST["scale_norm"] = {"/gain": WIDTH**0.5}
_RATE = WIDTH**-0.5  # nGPT's 1/√width
FIRST["ngpt"] = {"/rate": _RATE, "/qk_scale": _RATE, "head/scale": _RATE, "/up_scale": 1.0, "/gate_scale": 1.0}


# Scheme → parts of the paths of weights that it does without.
LACKING = {"simplified": ("/value/", "/out/")}


def multiplier(name: str, role: str, depth: int, block: int = 1) -> float:
    return MULTIPLIERS[name](role, block, depth) if name in MULTIPLIERS else 1.0


def first(name: str, path: str) -> float:
    found = [value for ending, value in FIRST.get(name, {}).items() if path.endswith(ending)]
    return found[0] if found else float(path.endswith("/gain"))


def draws(specs, **hypers):
    """Of seed 0. What schemes have in common is drawn once: a draw is of its path, before any scale."""
    values = laws.initial_values_by_seed(specs, 1, laws.HYPERS | hypers, known.values)
    return {path: np.asarray(value[0], np.float64) for path, value in values.items()}


MATRIX = "{}: a scheme's factor on the law of a matrix belongs in MULTIPLIERS (tests/test_init.py)"


def is_uniform(value, bound: float, told: str = "") -> None:
    """All within the bound, the largest close to it, and the deviation of a uniform law."""
    if bound == 0:
        assert not np.any(value), told
        return
    assert np.abs(value).max() <= bound * (1 + 1e-6), told
    assert np.abs(value).max() > 0.99 * bound, told
    assert value.std() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert abs(value.mean()) < 0.05 * bound


def is_normal(value, std: float) -> None:
    assert value.std() == pytest.approx(std, rel=0.04)
    assert abs(value.mean()) < 0.05 * std
    assert 3 * std < np.abs(value).max() < 6 * std


@pytest.mark.parametrize("name", third("xavier", core=FEW))
def test_xavier(name):
    model = large(name)
    values = draws(model.specs, gain=0.7)
    for path, value in values.items():
        *_, owner, leaf = path.split("/")
        if owner in SHAPES and leaf == "kernel" and model.specs[path].init.draw != "orthogonal":
            assert value.shape == SHAPES[owner]
            block = int(path.split("/")[2]) + 1
            is_uniform(
                value, 0.7 * multiplier(name, owner, 3, block) * math.sqrt(6 / sum(SHAPES[owner])), MATRIX.format(path)
            )
        elif path == "head/kernel":
            # The blocks' gain does not touch it.
            is_uniform(value, multiplier(name, "head", 3) * math.sqrt(6 / (WIDTH + TABLE)))
        elif owner == "embedding" and leaf != "scale":
            is_normal(value, multiplier(name, "embedding", 3) * WIDTH**-0.5)
        elif model.specs[path].init.draw == "orthogonal":
            np.testing.assert_allclose(value @ value.T, 0.7**2 * np.eye(WIDTH), atol=1e-5)
        elif name in ("gtrxl", "highway") and value.shape == (WIDTH, WIDTH):  # a gate's
            is_uniform(value, 0.7 * math.sqrt(6 / (2 * WIDTH)))
        elif name in ("mhc", "mhc_zero") and leaf == "phi":
            is_normal(value, 0.02)
        else:
            told = f"{path}: its first value, where it is not 1 for a gain and 0 for all else, belongs in FIRST (tests/test_init.py)"
            np.testing.assert_allclose(value, first(name, path), rtol=1e-6, err_msg=told)
    # A learned scalar stands in the place of the law's √width, and nGPT's rows stay of unit length.
    unscaled = name in ("dyt", "derf", "ngpt")
    assert model.module.embedding.multiplier == (1.0 if unscaled else pytest.approx(math.sqrt(WIDTH)))


# Published under GPT-2's law, N(0, 0.02²) (or another deviation: nGPT's matrices are projected, HybridNorm's has 0.014); the others under
# Xavier's, of Vaswani's code.
NORMAL = {
    "sandwich_ln",
    "res_post_norm",
    "hybrid_norm",
    "hybrid_norm_star",
    "gpt2",
    "dyt",
    "derf",
    "simplified",
    "value_skipinit",
}
NORMAL |= {"depth_mup", "completep", "ngpt", "lns", "mix_ln", "value_residual", "swin_v2", "layerscale"}
# Scheme → (inside a block, blocks over those of the base model) → factors on the optimiser; the others have none.
FACTORS = {
    "depth_mup": lambda inside, m: Factors(lr=m**-0.5 if inside else 1.0, eps=m**-0.5),
    "completep": lambda inside, m: Factors(eps=1 / m),
    "ngpt": lambda inside, m: Factors(decay=0.0),
}


@pytest.mark.parametrize("name", NAMES)
def test_law_decay_and_learning_rate_factors(name):
    """Decayed are weight matrices and embeddings, and of what the scheme itself brings the matrices of gates and of dynamic weights."""
    law = catalogue.get(name).law
    assert law == ("normal" if name in NORMAL else "xavier"), (
        "schemes of the law `normal` are in NORMAL (tests/test_init.py)"
    )
    for path, spec in large(name).specs.items():
        *_, owner, leaf = path.split("/")
        weight = leaf == "kernel" and owner in (*SHAPES, "head")
        gate = name in ("gtrxl", "highway") and "/connection/" in path and len(spec.shape) == 2
        dynamic = name in ("hyper", "frac") and leaf in ("dynamic_alpha", "dynamic_beta")
        table = path in ("embedding/tokens", "embedding/positions")
        assert (spec.group in DECAYED) == (weight or gate or dynamic or table), path
        factors = FACTORS.get(name, lambda inside, m: Factors())
        assert spec.factors == factors("/blocks/" in path, 3 / 2), (
            f"{path}: FACTORS (tests/test_init.py) says what is right"
        )


@pytest.mark.parametrize("name", ["pre_ln", "deepnorm", "sandwich_ln"])
def test_normal_and_depth_scaled(name):
    """GPT-2: N(0, std²), the two output projections over √(number of sublayers); the head and embeddings plain."""
    model = large(name, law="normal", depth_scaled=True)
    for path, value in draws(model.specs, std=0.05, gain=2.0).items():
        *_, owner, leaf = path.split("/")
        if owner in SHAPES and leaf == "kernel":
            scaled = math.sqrt(2 * 3) if owner in ("out", "down") else 1.0
            is_normal(value, 2.0 * 0.05 * multiplier(name, owner, 3) / scaled)
        elif path == "head/kernel" or owner == "embedding":
            is_normal(value, 0.05)
    assert model.module.embedding.multiplier == 1.0


@pytest.mark.parametrize(("name", "law"), [("pre_ln", "xavier"), ("deepnorm", "xavier")])
def test_classifier_has_its_own_head(name, law):
    arch = architecture(depth=3, width=WIDTH, hidden=WIDE, law=law)
    model = Functional(lambda rngs: Classifier(catalogue.get(name), arch, TABLE, LENGTH, 7, rngs=rngs))
    assert model.specs["head/kernel"].init == Init("uniform", math.sqrt(6 / (WIDTH + 7)))
    assert model.specs["head/bias"].init == Init.constant(0.0)
    ours = model.specs["encoder/blocks/2/attention/value/kernel"].init.scale
    assert ours == pytest.approx(multiplier(name, "value", 3) * math.sqrt(6 / (2 * WIDTH)))


def table(name: str, seed: int = 0):
    """(specs, values) of a scheme's model."""
    model = decoder(catalogue.get(name), architecture(depth=1, activation="swiglu"))
    return model.specs, model.init(seed)


def common(specs) -> set[str]:
    """What every scheme has: weight matrices and embeddings."""
    return {path for path in specs if "connections" not in path and "ends" not in path}


@pytest.mark.core
@pytest.mark.parametrize("names", [REPRESENTATIVE, pytest.param(NAMES, marks=pytest.mark.full)], ids=len)
def test_shared_tensors_are_the_same_bits_under_all_schemes(names):
    """Weight matrices and embeddings against pre_ln's; where one multiplies its law, up to that factor."""
    specs, values = table("pre_ln")
    for name in names:
        other_specs, others = table(name)
        for path in set(specs) & set(other_specs):
            if specs[path].init == other_specs[path].init:
                np.testing.assert_array_equal(values[path], others[path], err_msg=f"{name} {path}")
            elif specs[path].init.draw == other_specs[path].init.draw:
                factor = other_specs[path].init.scale / specs[path].init.scale
                np.testing.assert_allclose(factor * values[path], others[path], rtol=1e-6, err_msg=f"{name} {path}")


@pytest.mark.parametrize("name", NAMES)
def test_every_scheme_has_the_tensors_that_all_have(name):
    """Under the same paths, of which their values are drawn."""
    specs = decoder(catalogue.get("pre_ln"), architecture(depth=1, activation="swiglu")).specs
    others = decoder(catalogue.get(name), architecture(depth=1, activation="swiglu")).specs
    assert {path for path in common(specs) if not any(part in path for part in LACKING.get(name, ()))} <= set(others)


@pytest.mark.core
def test_tensors_and_seeds_differ():
    (specs, values), (_, others) = table("pre_ln"), table("pre_ln", seed=1)
    random = [path for path in specs if specs[path].init.draw != "constant"]
    for path in random:
        assert not np.any(np.asarray(values[path]) == np.asarray(others[path])), path
    for one, two in itertools.combinations(random, 2):
        if specs[one].shape == specs[two].shape:
            scale = specs[two].init.scale / specs[one].init.scale
            assert np.mean(np.isclose(scale * values[one], values[two], rtol=1e-5)) < 0.01, (one, two)


@pytest.mark.core
def test_bits_do_not_depend_on_how_they_are_drawn():
    """Eagerly, compiled, or as lanes of a vmap; in a table of many tensors or alone; with traced hypers or not."""
    specs = {f"blocks/{n}/{role}/kernel": Spec((8, 6), laws.linear(law, 8, 6), "matrix")
             for n, (role, law) in enumerate(itertools.product(("up", "down"), laws.LAWS))}  # fmt: skip
    specs["embedding"] = Spec((8, 6), laws.embedding("xavier", 8), "embedding")
    specs["norm/gain"] = Spec((6,), Init.constant(1.0), "gain")
    eager = laws.initial_values(specs, 3)
    hypers = {name: jnp.float32(value) for name, value in laws.HYPERS.items()}
    compiled = jax.jit(lambda seed, hypers: laws.initial_values(specs, seed, hypers))(jnp.uint32(3), hypers)
    lanes = jax.vmap(lambda seed: laws.initial_values(specs, seed))(jnp.arange(5, dtype=jnp.uint32))
    for path, value in eager.items():
        np.testing.assert_array_equal(compiled[path], value)
        np.testing.assert_array_equal(lanes[path][3], value)
        np.testing.assert_array_equal(laws.initial_values({path: specs[path]}, 3)[path], value)


@pytest.mark.core
def test_the_generator_is_pinned():
    """Values on file: what a seed draws may change with neither JAX nor its default generator."""
    assert laws.path_hash("a/kernel") == int(hashlib.sha256(b"a/kernel").hexdigest()[:8], 16)
    with jax.default_prng_impl("rbg"):
        value = laws.initial_values({"a/kernel": Spec((2, 2), Init("uniform", 1.0), "matrix")}, 0)["a/kernel"]
    np.testing.assert_allclose(
        value, [[0.1906452178955078, -0.3976418972015381], [-0.026317834854125977, -0.8341667652130127]], rtol=1e-6
    )


def test_whole_model_compiled_equals_eager():
    """The real decoder: `init` under jit, seed traced."""
    model = decoder(catalogue.get("deepnorm"), architecture(activation="swiglu"))
    compiled = jax.jit(model.init)(jnp.uint32(1))
    assert set(compiled) == set(model.specs)
    for path, value in model.init(1).items():
        np.testing.assert_array_equal(compiled[path], value, err_msg=path)
    assert compiled["embedding/tokens"].shape == (VOCAB, architecture().width)


@pytest.mark.parametrize("name", third("abstract"))
def test_a_module_without_values_is_the_module(name):
    """Paths, shapes, laws, groups and factors are those of one that was made with values."""

    def make(rngs: nnx.Rngs) -> Decoder:
        return Decoder(catalogue.get(name), architecture(depth=1), VOCAB, LENGTH, tied=False, rngs=rngs)

    real, abstract = make(nnx.Rngs(0)), make(laws.ABSTRACT)
    assert laws.specs(abstract) == laws.specs(real)
    leaves = [
        leaf.get_value()
        for leaf in jax.tree.leaves(nnx.state(abstract, nnx.Param), is_leaf=lambda x: isinstance(x, nnx.Variable))
    ]
    assert {type(leaf) for leaf in leaves} == {jax.ShapeDtypeStruct}
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


def test_values_of_many_seeds_are_those_of_each():
    table = {
        "a/kernel": Spec((3, 4), Init("normal", 0.5, ("gain",)), "matrix"),
        "b/kernel": Spec((3, 4), Init("uniform", 2.0), "matrix"),
        "b/square": Spec((4, 4), Init("orthogonal", 1.0), "matrix"),
        "b/bias": Spec((4,), Init.constant(3.0), "bias"),
    }
    hypers = {"gain": 1.5, "std": 0.02}
    together = laws.initial_values_by_seed(table, 3, hypers)
    for seed in range(3):
        for path, alone in laws.initial_values(table, seed, hypers).items():
            np.testing.assert_array_equal(together[path][seed], alone)


@pytest.mark.parametrize("draw", ["normal", "uniform", "orthogonal"])
def test_the_environment_does_not_choose_the_generator(draw):
    """JAX_THREEFRY_PARTITIONABLE=0 is the default of older versions, and draws other numbers."""
    table = {"a": Spec((4, 4), Init(draw, 1.0), "matrix")}
    expected = laws.initial_values(table, 3)["a"]
    with jax.threefry_partitionable(False):
        np.testing.assert_array_equal(laws.initial_values(table, 3)["a"], expected)
        np.testing.assert_array_equal(laws.initial_values_by_seed(table, 4)["a"][3], expected)
        other = jax.random.normal(jax.random.key(0), (4,))  # what is not pinned does differ
    assert not np.array_equal(other, jax.random.normal(jax.random.key(0), (4,)))
