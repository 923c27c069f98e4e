"""`--filter`: a part of a plan."""

import functools
from collections.abc import Sequence

from addnorm_exp import tasks
from addnorm_exp.config import leaves, slips
from addnorm_exp.config.door import convert
from addnorm_exp.config.keys import unknown
from addnorm_exp.config.lengths import in_steps
from addnorm_exp.errors import UserError, nearest
from addnorm_exp.experiment import Experiment
from addnorm_exp.sweep.study import CONFIG, Planned, Study

Filter = dict[str, object]


def parse_filter(text: str | None) -> Filter:
    """`KEY=VALUE,KEY=VALUE` as typed values. Raises UserError for unknown keys and values of another type.

    Whether a value is possible depends on the rest of a run's config; an impossible one selects no run of the plan.
    """
    chosen: Filter = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        key, equals, value = (word.strip() for word in part.partition("="))
        if not equals:
            scheme = slips.of_scheme(part)
            hint = f"; did you mean 'scheme={scheme}'?" if scheme else ", e.g. scheme=pre_ln,optim.lr=3e-3"
            raise UserError(f"--filter={text}: '{part}' is not KEY=VALUE{hint}")
        if key == CONFIG:
            chosen[key] = value
            continue
        if key not in leaves():
            raise unknown(key, f"--filter: {key}")
        chosen[key] = convert(leaves()[key], value, f"--filter: {key}")
    if text is not None and not chosen:
        raise UserError(f"--filter={text}: expected KEY=VALUE, e.g. scheme=pre_ln,optim.lr=3e-3")
    return chosen


def select(studies: Sequence[Study], chosen: Filter) -> tuple[Study, ...]:
    """The studies of a file whose config the filter names, by file or by its name alone. Raises UserError if there is none."""
    wanted = chosen.get(CONFIG)
    selected = tuple(study for study in studies if wanted in (None, study.config, study.part))
    if not selected or (wanted is not None and not selected[0].config):
        parts = [study.part for study in studies if study.config]
        hint = nearest(str(wanted), parts) if parts else "this study has one config; omit it"
        raise UserError(f"--filter=config={wanted}: {hint}")
    return selected


def choose(runs: tuple[Planned, ...], chosen: Filter) -> tuple[Planned, ...]:
    return tuple(run for run in runs if _has(run.experiment, chosen))


def unseeded(chosen: Filter) -> Filter:
    """The filter for the tuning phase: a seed in the filter selects report runs."""
    return {key: value for key, value in chosen.items() if key != "seed"}


def untuned(study: Study, chosen: Filter) -> Filter:
    """The filter for the report phase, where the tuned keys are the winner's."""
    return {key: value for key, value in chosen.items() if key not in study.tuned}


def _has(experiment: Experiment, chosen: Filter) -> bool:
    config = experiment.config
    sizes = functools.partial(tasks.sizes, config.task.name, config.data, config.seq_len)
    return all(
        experiment.flat[key] == in_steps(value, config.steps, config.batch_size, sizes)
        for key, value in chosen.items()
        if key != CONFIG
    )
