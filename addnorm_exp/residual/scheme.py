"""Scheme: a named record of how sublayers read the stream and write back, with its init law, its ends and its evidence."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
from flax import nnx

from addnorm_exp.residual import digest, norms
from addnorm_exp.residual.around import NOTHING, Around
from addnorm_exp.residual.contract import SUBLAYERS, ConnectionRecord, Depths, Site, Topology
from addnorm_exp.residual.ends import Ends, EndsModule
from addnorm_exp.residual.init import GROUPS, PLAIN, Factors, Init, linear, mark
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.predictions import Prediction
from addnorm_exp.residual.rule import Rule
from addnorm_exp.residual.variables import Coefficient

EVIDENCE = ("paper", "code", "secondary", "memory", "own")
METHOD, RECIPE = "method", "recipe"  # what init multipliers are
ROLES = ("query", "key", "value", "out", "gate", "up", "down")  # the weight matrices of a block
OUTPUT_ROLES = ("out", "down")  # those that write to the stream
# Those whose product a branch is, softmax and gate apart: W_v, W_o, W_1, W_2.
BRANCH_ROLES = ("value", "out", "up", "down")
ENDS_ROLES = ("embedding", "head")  # and those at the ends

Values = Mapping[str, jax.Array]  # parameters by path
Measure = Callable[[Values], Mapping[str, Mapping[str, jax.Array]]]  # → label of a site → quantity → scalar


class SchemeError(ValueError):
    """A record, or a scheme with these axes, that cannot be right; the message says which and the remedy."""


@dataclass(frozen=True)
class Versioned:
    """A function of parameters that belongs to a record. A run's id knows it by name and version, since its code cannot be hashed:
    a rename of a local would move every id.

    Raise `version` whenever what it computes changes. A golden of what it computes says so when that is forgotten
    (tests/test_runs_identity.py).
    """

    function: Callable[..., Values]
    version: int

    def __call__(self, *arguments: Any) -> Values:
        return self.function(*arguments)

    @property
    def identity(self) -> str:
        """What a digest holds of it. The first version is the name alone, as in digests that are older than versions."""
        name = self.function.__name__
        return name if self.version == 1 else f"{name} {self.version}"


def own_path(label: str, name: str) -> str:
    """The path of parameter `name` of the connection at a site, in a model whose stacks are named by `Site.stack`."""
    stack, block, at = label.split(".")
    return f"{stack}/blocks/{block}/connections/nodes/{at}/connection/{name}"


def unscaled(site: Site, role: str) -> float | Init:
    """The init multiplier of schemes that have none."""
    del site, role
    return 1.0


def no_factors(site: Site, group: str) -> Factors:
    """The optimiser's factors of schemes that leave it as it is."""
    del site, group
    return PLAIN


def no_options(site: Site, norm: NormSpec) -> dict[str, Any]:
    """What schemes ask of a sublayer that need nothing special of it."""
    del site, norm
    return {}


@dataclass(frozen=True)
class Scheme:
    """One published Add & Norm variant. Functions of the site give what differs from place to place.

    `block(site, norm)` is the plan of one block; `ends(norm)` what happens at the embedding and before the head. `init(site, role)` is a
    multiplier on the law of that weight matrix, or a law in its place: one of ROLES, or of ENDS_ROLES at the site `ends`.
    `multipliers` says what they are: the `method`, without which the scheme is another one (DeepNorm's β), or a `recipe` that came with
    it (GPT-2's scaled outputs), which `init.multipliers=none` of a config takes off.
    `options(site, norm)` are keywords for the constructor of that sublayer, where a scheme reaches into it (QKV-norm, mixing of values); a
    Transformer whose sublayers do not know them cannot be made. `norm` is the published normaliser, which the norm axes of a config
    override.

    `factors(site, group)` are those on learning rate, weight decay and Adam's ε, by the parameter's group (`init.GROUPS`): at the site of a
    sublayer for what is in it, of the block for what is around it, at `ends` for embedding, head and final norm.
    `calibrate(parameters, measure)` sets parameters from data, once, before step 0 (Admin): path → array to path → array.
    `measure(parameters)` runs the model on the first training batch and gives, by the label of each site in order, `stream_variance` and
    `branch_variance`, what the site reads and what it adds. `own_path(label, name)` is the path of a connection's own parameter.
    `predictions` are what theory says of it at init (`main.py probe`).

    `project(parameters)` maps all parameters to where they have to be, before step 0 and after every update (nGPT): path → array to path →
    array. `around` is what it asks of embedding, head and training besides. Both functions are `Versioned`.
    """

    name: str
    title: str
    family: str
    equation: str
    citation: str
    year: int
    evidence: str
    block: Callable[[Site, NormSpec], tuple[At, ...]]
    ends: Callable[[NormSpec], Ends]
    norm: NormSpec = norms.LAYER
    law: str = "xavier"
    init: Callable[[Site, str], float | Init] = unscaled
    multipliers: str | None = None  # method | recipe; needed where there is an `init`
    options: Callable[[Site, NormSpec], Mapping[str, Any]] = no_options
    needs_norm: bool = False  # its constants or its init assume a norm
    factors: Callable[[Site, str], Factors] = no_factors
    calibrate: Versioned | None = None
    project: Versioned | None = None
    around: Around = NOTHING
    plain_init: bool = False  # a skip coefficient other than 1 without an init of its own is meant (KEEL)
    traps: tuple[str, ...] = field(default=())
    predictions: tuple[Prediction, ...] = field(default=())

    def with_norm(self, **axes: Any) -> "Scheme":
        """This scheme under the norm axes of a config (`NormSpec.override`); `None` leaves an axis as published.

        Raises SchemeError where scheme and norm do not go together.
        """
        given = {key: value for key, value in axes.items() if value is not None}
        if not given:
            return self
        if not self.takes_norm:
            own = "no norm" if self.norm.kind == "none" else f"the norm '{self.norm.kind}' alone"
            raise SchemeError(f"scheme '{self.name}' has {own}, so norm.{min(given)} has no meaning; leave it unset")
        norm = self.norm.override(**given)
        if norm.kind == "none" and self.needs_norm:
            raise SchemeError(
                f"scheme '{self.name}' needs a norm (its coefficients and init assume one), but norm.kind is 'none'; "
                "use scheme 'no_norm', or another norm.kind"
            )
        idle = given.keys() - {"kind", *norm.axes}
        if idle:
            raise SchemeError(f"norm.kind is '{norm.kind}', so norm.{min(idle)} has no meaning; leave it unset")
        return replace(self, norm=norm)

    @property
    def takes_norm(self) -> bool:
        """Whether the scheme has a place for the norm of a config."""
        site = Site(depths=Depths(decoder=1))
        return self.block(site, norms.LAYER) != self.block(site, norms.NONE)

    def matrix_law(
        self, site: Site, role: str, law: str, fan_in: int, fan_out: int, depth_scaled: bool = False
    ) -> Init:
        """The law of a weight matrix of the sublayer at `site`, multipliers included."""
        outputs = depth_scaled and role in OUTPUT_ROLES  # Radford 2019, 2.3
        multiplier = 1.0 / math.sqrt(len(site.sublayers) * site.depth) if outputs else 1.0
        return linear(law, fan_in, fan_out, multiplier).under(self.init(site, role))

    def plan(self, site: Site) -> tuple[At, ...]:
        return self.block(site.at("block"), self.norm)

    def sublayer_options(self, site: Site) -> Mapping[str, Any]:
        """Keywords for the constructor of the sublayer at `site` (whose `kind` is that of a sublayer)."""
        return self.options(site, self.norm)

    def connect_ends(self, width: int, *, rngs: nnx.Rngs) -> EndsModule:
        """The module with `open(x0)` and `close(state)`."""
        return self.ends(self.norm).make(width, rngs)

    def mark(self, module: nnx.Module, site: Site) -> None:
        """Gives the parameters of a module at this site the scheme's factors on the optimiser."""
        if self.factors is not no_factors:
            mark(module, lambda group: self.factors(site, group))

    def projected(self, parameters: Values) -> dict[str, jax.Array]:
        """The parameters where the scheme wants them: as they are, but for schemes that `project`."""
        return dict(parameters if self.project is None else self.project(parameters))

    @property
    def final_norm(self) -> bool:
        return _acts(self.ends(self.norm).closing)

    def labels(self, site: Site) -> tuple[str, ...]:
        """Names of the sites of this block, `decoder.0.attention` and so on, in the order of taps and statistics."""
        return tuple(f"{site.stack}.{site.block}.{at.label}" for top in self.plan(site) for at in top.walk())

    def check(self, sites: Iterable[Site], width: int | None = None) -> None:
        """Raises SchemeError where the record cannot be right over these blocks of one stack, first to last, or with this width."""
        sites = tuple(sites)
        _check_record(self)
        for site in sites:
            _check_sublayers(self, site)
            for at in self.plan(site):
                _check_skip(self, f"{site.stack}.{site.block}.{at.label}", at.rule)
                for inner in at.walk():
                    _check_connection(self, f"{site.stack}.{site.block}.{inner.label}", inner.rule, width)
        _check_places(self, sites)

    def digest(self, sites: Iterable[Site]) -> str:
        """SHA-256 of all that the record says about these blocks: part of a run's identity. Prose does not enter."""
        sites = tuple(sites)
        plans = {
            f"{site.stack}.{site.block}": {
                "plan": self.plan(site),
                "init": {role: {kind: self.init(site.at(kind), role) for kind in site.sublayers} for role in ROLES},
            }
            for site in sites
        }
        facts = {"ends": self.ends(self.norm), "law": self.law, "blocks": plans}
        options = [{kind: self.sublayer_options(site.at(kind)) for kind in site.sublayers} for site in sites]
        if any(given for block in options for given in block.values()):
            facts["options"] = options
        if self.factors is not no_factors:
            places = [at for site in sites for at in (site, *map(site.at, (*site.sublayers, "ends")))]
            facts["factors"] = [{group: self.factors(at, group) for group in GROUPS} for at in places]
        if self.calibrate is not None:
            facts["calibrate"] = self.calibrate.identity
        if self.project is not None:
            facts["project"] = self.project.identity
        ends = {role: self.init(sites[0].at("ends"), role) for role in ENDS_ROLES} if sites else {}
        if any(factor != 1.0 for factor in ends.values()):
            facts["ends_init"] = ends
        if self.around != NOTHING:
            facts["around"] = self.around
        return digest.sha256(facts)


def _check_record(scheme: Scheme) -> None:
    if scheme.evidence not in EVIDENCE:
        raise SchemeError(f"scheme '{scheme.name}': evidence '{scheme.evidence}' is none of {', '.join(EVIDENCE)}")
    for name in ("calibrate", "project"):
        function = getattr(scheme, name)
        if function is not None and not isinstance(function, Versioned):
            raise SchemeError(
                f"scheme '{scheme.name}': {name} is a plain function, and a run's id needs its version too; write "
                f"{name}=Versioned(function, version=1), and raise the version when you change what it computes"
            )
    if scheme.needs_norm and scheme.norm.kind == "none":
        raise SchemeError(f"scheme '{scheme.name}' needs a norm, but its norm kind is 'none'")
    if scheme.init is not unscaled and scheme.multipliers not in (METHOD, RECIPE):
        raise SchemeError(
            f"scheme '{scheme.name}' has init multipliers; say what they are: multipliers='method' or 'recipe'"
        )


def _check_sublayers(scheme: Scheme, site: Site) -> None:
    """Each sublayer of a block is run once, and sites have names of their own: parameters and records go by them."""
    covered = [name for at in scheme.plan(site) for name in _sublayers(at)]
    if sorted(covered) != sorted(site.sublayers):
        where = f"{site.stack}.{site.block}"
        raise SchemeError(f"scheme '{scheme.name}' runs {covered} in {where}, which holds {list(site.sublayers)}")
    labels = scheme.labels(site)
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise SchemeError(f"scheme '{scheme.name}' has two sites of the name {twice}; a block holds one chain at most")


def _check_skip(scheme: Scheme, where: str, rule: ConnectionRecord) -> None:
    """Of the outer connections: inside a chain a sublayer may go without, for the chain's own skip stands in (SpanNorm)."""
    if scheme.around.drop_path and isinstance(rule, Rule) and rule.skip == 0.0:
        raise SchemeError(
            f"scheme '{scheme.name}' has no skip at {where}: stochastic depth, which drops branches, would leave nothing of a "
            "sequence; set model.drop_path=0"
        )


def _check_connection(scheme: Scheme, where: str, rule: ConnectionRecord, width: int | None) -> None:
    """What one connection asks of the width, of the norm's axes and of the init."""
    if isinstance(rule, Topology) and width is not None and width % (parts := rule.said("fractions")):
        raise SchemeError(
            f"scheme '{scheme.name}' splits the stream in {parts}; set model.width to a multiple of {parts}, not {width}"
        )
    if not isinstance(rule, Rule):
        return
    idle = next((norm for norm in rule.norms.values() if norm.gain_init != 1.0 and norm.affine == "none"), None)
    if idle:
        raise SchemeError(
            f"scheme '{scheme.name}' starts the gain of its norm at {idle.gain_init:g} at {where}, and the norm '{idle.kind}' has "
            "none here; take a norm.kind with a gain, and leave norm.affine unset"
        )
    skip = rule.skip.default if isinstance(rule.skip, Coefficient) else rule.skip
    scaled = isinstance(skip, float | int) and skip not in (0.0, 1.0)
    if scaled and "post" in rule.norms and scheme.init is unscaled and not scheme.plain_init:
        raise SchemeError(
            f"scheme '{scheme.name}': skip coefficient {skip:.4g} at {where} without the init multipliers that belong to it; "
            "set Scheme.init, or plain_init=True where the paper has none"
        )


def _check_places(scheme: Scheme, sites: tuple[Site, ...]) -> None:
    """No two norms stand at one place of the stream: behind the embedding, between two sublayers, before the head."""
    # `last`: what has just normalised the stream.
    last = "that of the embedding" if _acts(scheme.around.embedding_norm or scheme.around.positions_norm) else None
    for site in sites:
        for at in scheme.plan(site):
            here = at.rule.norms if isinstance(at.rule, Rule) else {}
            where = f"{site.stack}.{site.block}.{at.label}"
            if last and "stream" in here:
                raise SchemeError(
                    f"scheme '{scheme.name}': two norms at one place, {last} and the stream norm of {where}"
                )
            last = f"the post norm of {where}" if "post" in here else None
    if last and scheme.final_norm:
        raise SchemeError(f"scheme '{scheme.name}': two norms at one place, {last} and the final norm")


def _acts(norm: NormSpec | None) -> bool:
    return norm is not None and norm.kind != "none"


def _sublayers(at: At) -> list[str]:
    return [name for inner in at.walk() for name in _names(inner)]


def _names(at: At) -> tuple[str, ...]:
    return (at.body,) if isinstance(at.body, str) else getattr(at.body, "names", ())


def sites(stack: str, depths: Depths, sublayers: tuple[str, ...] = SUBLAYERS) -> tuple[Site, ...]:
    """The blocks of one stack, first to last."""
    count = depths.encoder if stack == "encoder" else depths.decoder
    return tuple(Site(stack, block, "block", sublayers, depths) for block in range(count))
