"""Scheme: a named record of how sublayers read the stream and write back, with its init law, its ends and its evidence."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
from flax import nnx

from addnorm_exp.residual import checks, digest, norms
from addnorm_exp.residual.around import NOTHING, Around
from addnorm_exp.residual.checks import SchemeError
from addnorm_exp.residual.contract import SUBLAYERS, Depths, Site
from addnorm_exp.residual.ends import Ends, EndsModule
from addnorm_exp.residual.init import GROUPS, PLAIN, Factors, Init, Spec, linear, mark, place
from addnorm_exp.residual.norms import NormSpec
from addnorm_exp.residual.plan import At
from addnorm_exp.residual.predictions import Prediction
from addnorm_exp.residual.versioned import Values, Versioned
from addnorm_exp.residual.vocabulary import ENDS_ROLES, OUTPUT_ROLES, ROLES


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
    `calibrate(specs, parameters, measure)` sets parameters from data, once, before step 0 (Admin): path → array to path → array.
    `measure(parameters)` runs the model on the first training batch and gives, by the label of each site in order, `stream_variance` and
    `branch_variance`, what the site reads and what it adds. `own_paths(specs, name)` are the paths of the connections' own parameters.
    `predictions` are what theory says of it at init (`main.py probe`).

    `project(specs, parameters)` maps all parameters to where they have to be, before step 0 and after every update (nGPT): path → array
    to path → array. `around` is what it asks of embedding, head and training besides. Both functions are `Versioned`.

    `stacks` are the schemes of stacks that do not follow this one, by the stack's name: `schemes.<stack>` of a config. All else of the
    model is under this one: the other stacks, embedding and head, `law` and `around`.
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
    stacks: tuple[tuple[str, "Scheme"], ...] = ()

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
    def scales_init(self) -> bool:
        """Whether it has init multipliers, or laws of its own."""
        return self.init is not unscaled

    @property
    def takes_norm(self) -> bool:
        """Whether the scheme has a place for the norm of a config."""
        site = Site(depths=Depths(decoder=1))
        return self.block(site, norms.LAYER) != self.block(site, norms.NONE)

    def of(self, stack: str) -> "Scheme":
        """The scheme of a stack."""
        return dict(self.stacks).get(stack, self)

    @property
    def calibrates(self) -> bool:
        return any(scheme.calibrate is not None for scheme in self.members)

    @property
    def projects(self) -> bool:
        return any(scheme.project is not None for scheme in self.members)

    @property
    def members(self) -> tuple["Scheme", ...]:
        """Itself, and those of its stacks."""
        return (self, *(scheme for _, scheme in self.stacks))

    def shares(self, specs: Mapping[str, Spec]) -> Iterator[tuple["Scheme", Mapping[str, Spec]]]:
        """Each scheme of the model with the parameters that are under it."""
        shares: dict[str, dict[str, Spec]] = {stack: {} for stack in ("", *dict(self.stacks))}
        for path, spec in specs.items():
            stack = spec.site.stack if spec.site and spec.part not in ("embedding", "head") else ""
            shares[stack if stack in shares else ""][path] = spec
        for stack, own in shares.items():
            yield self.of(stack), own

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

    def mark(self, module: nnx.Module, site: Site, part: str) -> None:
        """Sets the place of the parameters of a module, a part of a model, and the scheme's factors on the optimiser."""
        place(module, site, part)
        if self.factors is not no_factors:
            mark(module, lambda group: self.factors(site, group))

    def projected(self, specs: Mapping[str, Spec], parameters: Values) -> dict[str, jax.Array]:
        """The parameters where the scheme wants them: as they are, but for schemes that `project`."""
        projected = dict(parameters)
        for scheme, own in self.shares(specs) if self.projects else ():
            if scheme.project is not None:
                projected |= scheme.project(own, {path: parameters[path] for path in own})
        return projected

    @property
    def final_norm(self) -> bool:
        return checks.acts(self.ends(self.norm).closing)

    def labels(self, site: Site) -> tuple[str, ...]:
        """Names of the sites of this block, `decoder.0.attention` and so on, in the order of taps and statistics."""
        return tuple(site.at(at.label).label for top in self.plan(site) for at in top.walk())

    def check(self, sites: Iterable[Site], width: int | None = None) -> None:
        """Raises SchemeError where the record cannot be right over these blocks, first to last, or with this width."""
        for stack, own in by_stack(sites).items():
            self.of(stack)._check_stack(own, width)

    def _check_stack(self, sites: tuple[Site, ...], width: int | None) -> None:
        checks.check_record(self)
        for site in sites:
            checks.check_sublayers(self, site)
            for at in self.plan(site):
                checks.check_skip(self, site.at(at.label).label, at.rule)
                for inner in at.walk():
                    checks.check_connection(self, site.at(inner.label).label, inner.rule, width)
        checks.check_places(self, sites)

    def digest(self, sites: Iterable[Site]) -> str:
        """SHA-256 of all that the record says about these blocks: part of a run's identity. Prose does not enter."""
        total, apart = by_stack(sites), dict(self.stacks)
        sites = tuple(site for stack, own in total.items() if stack not in apart for site in own)
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
        first = next((site for own in total.values() for site in own), None)
        ends = {role: self.init(first.at("ends"), role) for role in ENDS_ROLES} if first else {}
        if any(factor != 1.0 for factor in ends.values()):
            facts["ends_init"] = ends
        if self.around != NOTHING:
            facts["around"] = self.around
        if apart:
            facts["stacks"] = {stack: scheme.digest(total.get(stack, ())) for stack, scheme in self.stacks}
        return digest.sha256(facts)


def by_stack(sites: Iterable[Site]) -> dict[str, tuple[Site, ...]]:
    """The blocks of each stack of a model."""
    stacks: dict[str, tuple[Site, ...]] = {}
    for site in sites:
        stacks[site.stack] = (*stacks.get(site.stack, ()), site)
    return stacks


def sites(stack: str, depths: Depths, sublayers: tuple[str, ...] = SUBLAYERS) -> tuple[Site, ...]:
    """The blocks of one stack, first to last."""
    return tuple(Site(stack, block, "block", sublayers, depths) for block in range(depths[stack]))
