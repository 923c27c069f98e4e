"""An experiment: a config with everything that follows from it. It is resolved once, and travels in the place of names."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

from addnorm_exp.config.key import HOST, SHAPE
from addnorm_exp.config.keys import flatten, leaves
from addnorm_exp.config.schema import AttentionConfig, Config, EmbeddingConfig, Law, LogitsConfig, NormConfig
from addnorm_exp.config.tasks.task import StackSchemes
from addnorm_exp.experiment.hypers import Hypers, hypers_of
from addnorm_exp.experiment.shape import Shape, shape_of
from addnorm_exp.experiment.timetable import Timetable, timetable_of
from addnorm_exp.residual import Scheme, Site
from addnorm_exp.runs.identity import run_id


@dataclass(frozen=True)
class Experiment:
    """A checked config, its scheme with the axes that the config sets, the blocks of the model, first to last, and what the model is built
    of from the data (`Shape.form`).

    Everything else is derived, once. `tasks.resolve` makes experiments.
    """

    config: Config
    scheme: Scheme
    sites: tuple[Site, ...]
    form: tuple[Any, ...] = ()

    def with_config(self, config: Config) -> "Experiment":
        """The experiment of a config with the same values of `structural` keys."""
        experiment = replace(self, config=config)
        vars(experiment).update(shape=self.shape, digest=self.digest)  # cached properties
        return experiment

    @cached_property
    def flat(self) -> dict[str, object]:
        """The config's values by key."""
        return flatten(self.config)

    @cached_property
    def values(self) -> dict[str, object]:
        """The config's values by key, with those that are not set as they apply where they are hypers."""
        config = self.config
        return self.flat | {
            "data.seed": config.seed if config.data.seed is None else config.data.seed,
            "model.drop_path": self.scheme.around.drop_path,
        }

    @cached_property
    def shape(self) -> Shape:
        return shape_of(self.values, self.scheme, self.sites, self.form)

    @cached_property
    def digest(self) -> str:
        """Of the scheme's record over these blocks."""
        return self.scheme.digest(self.sites)

    @cached_property
    def hypers(self) -> Hypers:
        return hypers_of(self.values)

    @cached_property
    def timetable(self) -> Timetable:
        return timetable_of(self.config)

    def id(self, data_sha256: str) -> str:
        """The run's id on these data. What the scheme's record holds counts by the digest: the axes of a config, schemes of stacks and
        multipliers of init; the init law counts by its resolved value."""
        config = self.config
        without_axes = replace(
            config,
            schemes=StackSchemes(),
            norm=NormConfig(),
            attention=AttentionConfig(),
            embedding=EmbeddingConfig(),
            logits=LogitsConfig(),
            model=replace(config.model, drop_path=None),
            init=replace(config.init, law=cast(Law, config.init.law or self.scheme.law), multipliers="scheme"),
        )
        return run_id(without_axes, data_sha256, self.digest)


def structural() -> tuple[str, ...]:
    """The keys on which scheme, blocks, form and shape depend: all that are more than hypers or a part of the timetable."""
    return tuple(key for key, leaf in leaves().items() if leaf.said.role & (SHAPE | HOST))
