"""The protocol of a study: tune, choose the winners, report them on other seeds; or a plain sweep."""

from pathlib import Path

from addnorm_exp.errors import UserError
from addnorm_exp.sweep.estimate import COMPILE_SECONDS, Estimator
from addnorm_exp.sweep.launch import Launcher, Outcome
from addnorm_exp.sweep.record import write_plan
from addnorm_exp.sweep.selection import Filter, choose
from addnorm_exp.sweep.study import Planned, Study


def carry_out(study: Study, folder: Path, launcher: Launcher, chosen: Filter) -> dict[str, Outcome]:
    """Runs what is missing, phase after phase, and returns what became of it. The whole plan is checked before the first run.

    A group is reported when each of its tuning runs has an outcome: a winner chosen among half of the candidates is none.
    """
    if not study.phased:
        runs = study.sweep()
        _some(choose(runs, chosen), chosen)
        write_plan(folder, study, {"run": runs})
        return {"run": launcher.launch("run", choose(runs, chosen))}
    tuning = study.tune()
    study.report(study.stand_in(tuning), tuning)
    tried = choose(tuning, {key: value for key, value in chosen.items() if key != "seed"})
    _some(tried, chosen)
    write_plan(folder, study, {"tune": tuning})
    outcomes = {"tune": launcher.launch("tune", tried)}
    if not outcomes["tune"].complete:
        return outcomes
    summaries = launcher.finished(tuning)
    ended = {*summaries, *(run.id for run in outcomes["tune"].failed)}
    waiting = {study.group(run) for run in tuning if run.id not in ended}  # on what the filter left out
    best = study.select((run for run in tuning if study.group(run) not in waiting), summaries)
    if not best:
        return outcomes
    reporting = study.report(best, tuning)
    write_plan(folder, study, {"tune": tuning, "report": reporting})
    outcomes["report"] = launcher.launch("report", choose(reporting, _untuned(study, chosen)))
    return outcomes


def dry_run(study: Study, folder: Path, chosen: Filter) -> str:
    """The plan with its cost, as text. The report phase is counted with each group's first candidate as its winner."""
    phases: dict[str, tuple[Planned, ...]] = {}
    if study.phased:
        tuning = study.tune()
        reporting = study.report(study.stand_in(tuning), tuning)
        phases["tune"] = choose(tuning, {key: value for key, value in chosen.items() if key != "seed"})
        phases["report"] = choose(reporting, _untuned(study, chosen))
    else:
        phases["run"] = choose(study.sweep(), chosen)
    _some(next(iter(phases.values())), chosen)
    estimator = Estimator(folder)
    everything = [run for runs in phases.values() for run in runs]
    summaries = estimator.learn(everything)
    lines, seconds, flops = [], 0.0, 0.0
    for phase, runs in phases.items():
        stands = " (with the first candidate of each group in the winner's place)" if phase == "report" else ""
        lines.append(f"{phase}: {len(runs)} runs{stands}")
        wide = max((len(run.label) for run in runs), default=0)
        for run in runs:
            cost = estimator.cost(run)
            status = summaries.get(run.id, {}).get("status", "to do")
            if status not in ("done", "diverged"):
                seconds, flops = seconds + cost.seconds, flops + cost.flops
            lines.append(
                f"  {run.id}  {run.label:<{wide}}  {cost.parameters:>11,} parameters  {cost.flops:.2e} FLOPs"
                f"  {_time(cost.seconds):>7}  {status}"
            )
    shapes = estimator.shapes(everything)
    total = seconds + COMPILE_SECONDS * shapes
    lines.append(
        f"to do: {flops:.2e} FLOPs; about {_time(total)} on this machine, {shapes} compilations included (a rough estimate: by "
        "finished runs of the same shape where there are any, else by a short matrix product)"
    )
    return "\n".join(lines) + "\n"


def _untuned(study: Study, chosen: Filter) -> Filter:
    """The filter for the report phase, where the tuned keys are the winner's."""
    return {key: value for key, value in chosen.items() if key not in study.tuned}


def _some(runs: tuple[Planned, ...], chosen: Filter) -> None:
    if not runs:
        said = ",".join(f"{key}={value}" for key, value in chosen.items())
        raise UserError(f"--filter={said}: no run of the plan has these values; see --dry_run without it")


def _time(seconds: float) -> str:
    """Seconds in the unit that people would say them in."""
    for unit, size, most in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if seconds < most * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
