"""`--filter`: a part of a plan."""

from addnorm_exp.config import flatten, leaves, slips
from addnorm_exp.config.door import convert, settled
from addnorm_exp.config.keys import unknown
from addnorm_exp.config.schema import Config
from addnorm_exp.errors import UserError
from addnorm_exp.sweep.study import Planned

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
        if key not in leaves():
            raise unknown(key, f"--filter: {key}")
        chosen[key] = convert(leaves()[key], value, f"--filter: {key}")
    if text is not None and not chosen:
        raise UserError(f"--filter={text}: expected KEY=VALUE, e.g. scheme=pre_ln,optim.lr=3e-3")
    return chosen


def choose(runs: tuple[Planned, ...], chosen: Filter) -> tuple[Planned, ...]:
    return tuple(run for run in runs if _has(run.config, chosen))


def _has(config: Config, chosen: Filter) -> bool:
    flat = flatten(config)
    return all(
        flat[key] == (settled(value, config.steps) if leaves()[key].share else value) for key, value in chosen.items()
    )
