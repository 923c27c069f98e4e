"""`main.py train`: one run, or several in one program from the tickets of a study."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from addnorm_exp.cli.cache_flag import CACHE
from addnorm_exp.cli.stop import StopSignal
from addnorm_exp.cli.wandb_flags import WANDB_FLAGS, mirror_of
from addnorm_exp.config.flags import Arguments, Flag, parse
from addnorm_exp.config.lengths import Sizes
from addnorm_exp.config.tasks.task import DataConfig
from addnorm_exp.errors import UserError, to_stderr
from addnorm_exp.runs.metrics import figure, metrics_of
from addnorm_exp.runs.records import Summary
from addnorm_exp.words import counted

if TYPE_CHECKING:
    from addnorm_exp.experiment import Experiment
    from addnorm_exp.train.display import RunDisplay

HELP = "train one run: --config=configs/lm.py:SCHEME [--config.KEY=VALUE …] --workdir=DIR"

FLAGS = (
    Flag("workdir", Path, None, "the run's folder; run the same command again to resume a stopped run", "DIR"),
    Flag(
        "ticket",
        str,
        None,
        "train a planned run of a study from its file plan/ID.json, in place of --config; several are trained in one program",
        "FILE[,FILE…]",
    ),
    CACHE,
    *WANDB_FLAGS,
)


@dataclass(frozen=True)
class Training:
    """Experiments that one program trains, and their folders. `study`: the name of their study; `keep`: what finished runs keep if their
    configs do not say."""

    experiments: "list[Experiment]"
    folders: list[Path]
    study: str | None = None
    keep: str = "best"


def run(argv: list[str]) -> int:
    arguments = parse(argv, FLAGS, command="train", about=HELP, config="optional", measure=_sizes)
    training = _of_config(arguments) if arguments["ticket"] is None else _of_tickets(arguments)
    for folder in training.folders:
        if folder.is_file():
            raise UserError(f"{folder} is a file; --workdir needs a folder")

    from addnorm_exp import tasks
    from addnorm_exp.runs.checkpoint_folders import prospect
    from addnorm_exp.runs.folder import RunFolder
    from addnorm_exp.runs.lock import Busy
    from addnorm_exp.train.display import RunDisplay
    from addnorm_exp.train.loop import Member, Stopped, check_machine
    from addnorm_exp.train.loop import run_pack as train
    from addnorm_exp.train.program_cache import keep_programs

    if arguments[CACHE.name]:
        keep_programs()

    first, folder, lanes = training.experiments[0], training.folders[0], len(training.experiments)
    config, times = first.config, first.timetable
    label = config.scheme + f" and {lanes - 1} more" * (lanes > 1)
    display = RunDisplay(label, config.steps, validates=lambda step: times.due(step, "validation"))
    mirror = mirror_of(arguments, display.say, folder if lanes == 1 else folder.parent)
    check_machine(first, lanes)  # check this and W&B's settings before fetching data
    data = tasks.load(config)
    for experiment in training.experiments:
        tasks.check(experiment, data.spec)
    for line in dict.fromkeys(line for each in training.experiments for line in tasks.remarks(each, data.spec)):
        to_stderr(line)
    try:
        with StopSignal(display.say) as stop, mirror:
            stop.mirror, mirror.stopping = mirror, stop
            stop.prospect = lambda: prospect(folder)
            with display:
                watches = map(mirror.watch, training.folders, _watches(training, display))
                members = [
                    Member(experiment, RunFolder(path), watch)
                    for experiment, path, watch in zip(training.experiments, training.folders, watches, strict=True)
                ]
                summaries = train(members, data, study=training.study, stop=stop, keep=training.keep)
            if not display.begun:
                finished = f"{folder} is" if lanes == 1 else f"{folder} and the others are"
                to_stderr(f"{finished} already finished; nothing was run")
            mirror.end()
            for summary, path in zip(summaries, training.folders, strict=True):
                _conclude(summary, path)
    except Busy:
        raise UserError(
            f"{folder}: another process is training this run; wait for it, or choose another folder"
        ) from None
    except Stopped as stopped:
        to_stderr(str(stopped))
        return stop.code
    return 0 if all(summary.status == "done" for summary in summaries) else 1


def _of_config(arguments: Arguments) -> Training:
    config = arguments.config
    if config is None:
        raise UserError("train needs --config=FILE, e.g. --config=configs/lm.py:pre_ln")

    from addnorm_exp import tasks

    experiment = tasks.resolve(config, str(arguments.config_file), arguments.overrides or ())
    if arguments["workdir"] is None:
        raise UserError("train needs --workdir=DIR, the folder of the run")
    return Training([experiment], [arguments["workdir"]])


def _of_tickets(arguments: Arguments) -> Training:
    overrides = [f"--config.{key}" for key in arguments.overrides or ()]
    if arguments.config is not None or overrides:
        raise UserError(f"--ticket has the whole config of a run; omit {[*overrides, '--config'][0]}")

    from addnorm_exp.sweep.study import keeps
    from addnorm_exp.sweep.ticketed import folder_of, pack_of, ticket_files

    files, workdir = ticket_files(arguments["ticket"]), arguments["workdir"]
    if workdir is not None and len(files) > 1:
        raise UserError("--workdir is the folder of one run, and --ticket names several; omit it")
    runs, study = pack_of(files)
    folders = [workdir] if workdir else [folder_of(file, run) for file, run in zip(files, runs, strict=True)]
    return Training([run.experiment for run in runs], folders, study, keeps(runs[0].phase))


def _watches(training: Training, display: "RunDisplay") -> list[Callable[[Mapping[str, Any]], None]]:
    """What follows the events of each run: the display shows the first one that has not ended."""
    from addnorm_exp.runs.folder import FINISHED, RunFolder

    summaries = [RunFolder(folder).summary() for folder in training.folders]
    going = [place for place, summary in enumerate(summaries) if not (summary and summary.status in FINISHED)]

    def watcher(place: int) -> Callable[[Mapping[str, Any]], None]:
        def watch(event: Mapping[str, Any]) -> None:
            if going[:1] == [place]:
                display.watch(event)
            elif event["event"] == "note":
                display.say(f"{training.folders[place].name}: {event['text']}")
            if event["event"] in ("done", "diverged") and place in going:
                going.remove(place)

        return watch

    return [watcher(place) for place in range(len(training.folders))]


def _sizes(task: str, data: DataConfig, seq_len: int) -> Sizes:
    from addnorm_exp import tasks  # needs JAX, which --help does not

    return tasks.sizes(task, data, seq_len)


def _conclude(summary: Summary, folder: Path) -> None:
    if summary.status == "diverged":
        print(f"{summary.scheme} diverged: {summary.reason}  ({folder})")
        return
    steps, step, record = counted(summary.step or 0, "step"), summary.step_time_s or 0.0, summary.record_time_s
    slow = f" (recording takes {1e3 * record:.1f} ms per step)" if record is not None and record > step else ""
    tested = figure(summary.at("test", "final"), metrics_of(summary))
    print(f"{summary.scheme}: test {tested} after {steps}, {1e3 * step:.1f} ms per step{slow}  ({folder})")
