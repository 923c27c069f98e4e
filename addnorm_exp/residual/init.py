"""Initial values: laws as data, drawn by a key that depends on the parameter's path alone.

A tensor's key is `fold_in(seed, hash(path))`. Tensors that two schemes have in common are therefore bit-identical at equal seed, and a
comparison of schemes over shared seeds is a paired one. The generator is threefry in its partitionable form, pinned, so the values do not
depend on the default of a JAX version.
"""

import functools
import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

if TYPE_CHECKING:
    from addnorm_exp.residual.contract import Site

LAWS = ("xavier", "normal")
GROUPS = ("matrix", "embedding", "gain", "bias", "coefficient")
DECAYED = ("matrix", "embedding")  # those that weight decay is for
PARTS_OF_BLOCKS = ("sublayer", "connection")
HYPERS = {"gain": 1.0, "std": 0.02}


@dataclass(frozen=True)
class Init:
    """The law of one tensor: `scale × (product of the named hypers) × draw`.

    draw: `normal` has unit variance, `uniform` lies in [-1, 1], `constant` is 1, `orthogonal` is a square matrix with orthonormal rows.
    The hypers are traced numbers (`init.gain`, `init.std` of the config), so that a sweep over them needs one compiled program.
    """

    draw: str
    scale: float
    hypers: tuple[str, ...] = ()

    @classmethod
    def constant(cls, value: float) -> "Init":
        return cls("constant", value)

    def under(self, given: "float | Init") -> "Init":
        """What a scheme makes of this law: a multiplier scales it, a law of its own takes its place."""
        return given if isinstance(given, Init) else replace(self, scale=self.scale * given)

    def deviation(self, fan_in: int, hypers: Mapping[str, float] = HYPERS) -> float:
        """The standard deviation of an entry; of an orthogonal matrix, its root mean square."""
        unit = {"normal": 1.0, "uniform": 3**-0.5, "orthogonal": fan_in**-0.5, "constant": 0.0}[self.draw]
        return unit * abs(self.scale) * math.prod(hypers[name] for name in self.hypers)

    def __call__(self, key: jax.Array, shape: tuple[int, ...], hypers: Mapping[str, ArrayLike] = HYPERS) -> jax.Array:
        return _scale(self, _draw(self.draw, key, shape), hypers)


def _draw(draw: str, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    if draw == "constant":
        return jnp.ones(shape, jnp.float32)
    with jax.threefry_partitionable(True):  # the default of today; the former one draws other numbers
        if draw == "uniform":
            return jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0)
        normal = jax.random.normal(key, shape, jnp.float32)
    if draw == "normal":
        return normal
    q, r = jnp.linalg.qr(normal)  # orthogonal (Mezzadri 2007): Q of a normal matrix, R's diagonal made positive
    return q * jnp.sign(jnp.diagonal(r))[None, :]


def _scale(init: Init, values: jax.Array, hypers: Mapping[str, ArrayLike]) -> jax.Array:
    return values * _multiplier(init, hypers)


def _multiplier(init: Init, hypers: Mapping[str, ArrayLike]) -> Any:
    return math.prod((hypers[name] for name in init.hypers), start=np.float32(init.scale))


def linear(law: str, fan_in: int, fan_out: int, multiplier: float = 1.0) -> Init:
    """A weight matrix inside a block, times `init.gain`.

    xavier: U(±√(6 / (fan_in + fan_out))) (Glorot & Bengio 2010, eq. 16, as in Vaswani 2017's code; DeepNorm's own code draws the same
    variance from a normal).
    normal: N(0, `init.std`²) (GPT-2).
    """
    if law == "xavier":
        return Init("uniform", multiplier * math.sqrt(6.0 / (fan_in + fan_out)), ("gain",))
    return Init("normal", multiplier, ("gain", "std"))


def embedding(law: str, width: int) -> Init:
    """Token and position embeddings, and a head tied to them.

    xavier: N(0, 1/width), multiplied by √width where it enters the stream (Vaswani 2017, 3.4). normal: N(0, `init.std`²).
    """
    return Init("normal", 1.0 / math.sqrt(width)) if law == "xavier" else Init("normal", 1.0, ("std",))


def embedding_multiplier(law: str, width: int) -> float:
    return math.sqrt(width) if law == "xavier" else 1.0


def head(law: str, width: int, vocab: int) -> Init:
    """An output head of its own; `init.gain`, which is about the blocks, does not touch it."""
    return Init("uniform", math.sqrt(6.0 / (width + vocab))) if law == "xavier" else Init("normal", 1.0, ("std",))


@dataclass(frozen=True)
class Factors:
    """What a scheme puts on the optimiser for one tensor: factors on its learning rate, its weight decay (decoupled, so that a step takes
    lr · decay of the tensor away) and the ε of its Adam."""

    lr: float = 1.0
    decay: float = 1.0
    eps: float = 1.0


PLAIN = Factors()


# In the place of random streams: what is made with it has the shape of each parameter (`jax.ShapeDtypeStruct`) instead of a value.
# `nnx.eval_shape` comes to the same in twice the time, for it traces every draw (benchmarks/NOTES.md).
ABSTRACT = nnx.Rngs()


def parameter(shape: tuple[int, ...], init: Init, group: str, rngs: nnx.Rngs) -> nnx.Param:
    """A parameter that knows its law and its group (one of GROUPS; weight decay and learning-rate factors go by group)."""
    value = jax.ShapeDtypeStruct(shape, jnp.float32) if rngs is ABSTRACT else init(rngs.params(), shape)
    return nnx.Param(value, init=init, group=group, factors=PLAIN, place=())


def place(module: nnx.Module, site: "Site", part: str) -> None:
    """Sets the place of each parameter of a module, a part of a model: the module's site, and the parameter's name in it. A place that
    is set stays."""
    for path, node in nnx.iter_graph(module):
        if isinstance(node, nnx.Param) and not node.place:
            node.set_metadata(place=(site, part, "/".join(map(str, path))))


def mark(module: nnx.Module, factors: Callable[[str], Factors]) -> None:
    """Gives each parameter of a module the factors of its group."""
    for _, node in nnx.iter_graph(module):
        if isinstance(node, nnx.Param):
            node.set_metadata(factors=factors(node.group))


def forget(module: nnx.Module) -> None:
    """Takes off each parameter what is known of it besides its value: to `lax.scan`, blocks of unlike laws are of one structure then."""
    for _, node in nnx.iter_graph(module):
        if isinstance(node, nnx.Param):
            for name in ("init", "group", "factors", "place"):
                node.del_metadata(name)


@dataclass(frozen=True)
class Spec:
    """What is known of a parameter without its values.

    `part` is the part of a model that the parameter is in, `site` where that part stands, and `name` the parameter's path inside it:

    | part       | site                                 | name                              |
    |------------|--------------------------------------|-----------------------------------|
    | sublayer   | of the sublayer                      | `out/kernel`                      |
    | connection | its `kind` is the connection's label | `skip`, `pre/gain`                |
    | ends       | its `kind` is `ends`                 | `closing/gain`                    |
    | embedding  | as above                             | `tokens`                          |
    | head       | as above                             | `kernel`                          |

    A module by itself has none of the three.
    """

    shape: tuple[int, ...]
    init: Init
    group: str
    factors: Factors = PLAIN
    site: "Site | None" = None
    part: str = ""
    name: str = ""
    size: int = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "size", math.prod(self.shape))

    @property
    def in_block(self) -> bool:
        return self.part in PARTS_OF_BLOCKS


def specs(abstract: nnx.Module) -> dict[str, Spec]:
    """Path → Spec of every parameter of a module, with values or `ABSTRACT`; paths look like `blocks/0/attention/out/kernel`."""
    flat = nnx.to_flat_state(nnx.state(abstract, nnx.Param))
    return {
        "/".join(map(str, path)): Spec(
            tuple(variable.shape), variable.init, variable.group, variable.factors, *variable.place
        )
        for path, variable in flat
    }


def initial_values(
    table: Mapping[str, Spec], seed: ArrayLike, hypers: Mapping[str, ArrayLike] = HYPERS
) -> dict[str, jax.Array]:
    """Path → float32 values, each drawn from the key of its own path. `seed` and `hypers` may be traced.

    Tensors of one shape and draw are drawn together by `vmap`, which leaves the bits as they are and keeps compilation short.
    """
    root = jax.random.key(seed, impl="threefry2x32")
    together: dict[tuple, list[str]] = defaultdict(list)
    for path, spec in table.items():
        together[spec.init.draw, spec.shape].append(path)
    values: dict[str, jax.Array] = {}
    for (draw, shape), paths in together.items():
        if draw == "constant":  # no program for each shape
            values |= {path: _filled(table[path].init, shape, hypers) for path in paths}
            continue
        hashes = jnp.array([path_hash(path) for path in paths], jnp.uint32)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(root, hashes)
        drawn = jax.vmap(lambda key, draw=draw, shape=shape: _draw(draw, key, shape))(keys)
        for path, value in zip(paths, drawn, strict=True):
            values[path] = _scale(table[path].init, value, hypers)
    return values


def draw_by_seed(draw: str, shape: tuple[int, ...], seeds: int, path: str) -> jax.Array:
    """(seeds, *shape): what `Init.draw` gives at this path for seeds 0, 1, …, before any scale."""
    return _draw_by_seed(draw, shape, seeds, np.uint32(path_hash(path)))


def initial_values_by_seed(
    table: Mapping[str, Spec],
    seeds: int,
    hypers: Mapping[str, ArrayLike] = HYPERS,
    draws: Callable[[str, tuple[int, ...], int, str], jax.Array] = draw_by_seed,
) -> dict[str, jax.Array]:
    """Path → (seeds, *shape): the bits of `initial_values` for seeds 0, 1, …

    For many models that are made once and not compiled: what draws a tensor is compiled once for its shape, whatever else there is.
    `draws` may keep what `draw_by_seed` gave before.
    """

    def values(path: str, spec: Spec) -> jax.Array:
        if spec.init.draw == "constant":
            return _filled(spec.init, (seeds, *spec.shape), hypers)
        return _scale(spec.init, draws(spec.init.draw, spec.shape, seeds, path), hypers)

    return {path: values(path, spec) for path, spec in table.items()}


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _draw_by_seed(draw: str, shape: tuple[int, ...], seeds: int, hashed: jax.Array) -> jax.Array:
    def one(seed: jax.Array) -> jax.Array:
        return _draw(draw, jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), hashed), shape)

    return jax.vmap(one)(jnp.arange(seeds, dtype=jnp.int32))


def _filled(init: Init, shape: tuple[int, ...], hypers: Mapping[str, ArrayLike]) -> jax.Array:
    """The values of a constant."""
    return jax.device_put(np.full(shape, _multiplier(init, hypers), np.float32))


def path_hash(path: str) -> int:
    """Four bytes of SHA-256: the same on every machine and Python, unlike `hash`."""
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:4], "big")
