"""`main.py train`: one run."""

from pathlib import Path

from addnorm_exp.cli.cache_flag import CACHE
from addnorm_exp.cli.stop import StopSignal
from addnorm_exp.cli.wandb_flags import WANDB_FLAGS, mirror_of
from addnorm_exp.config.flags import Flag, parse
from addnorm_exp.config.lengths import Sizes
from addnorm_exp.config.tasks.task import DataConfig
from addnorm_exp.errors import UserError, to_stderr
from addnorm_exp.runs.metrics import figure, metrics_of
from addnorm_exp.runs.records import Summary
from addnorm_exp.words import counted

HELP = "train one run: --config=configs/lm.py:SCHEME [--config.KEY=VALUE …] --workdir=DIR"

FLAGS = (
    Flag("workdir", Path, None, "the run's folder; run the same command again to resume a stopped run", "DIR"),
    CACHE,
    *WANDB_FLAGS,
)


def run(argv: list[str]) -> int:
    arguments = parse(argv, FLAGS, command="train", about=HELP, config="required", measure=_sizes)
    config = arguments.config
    assert config is not None

    from addnorm_exp import tasks

    experiment = tasks.resolve(config, str(arguments.config_file), arguments.overrides or ())
    folder = arguments["workdir"]
    if folder is None:
        raise UserError("train needs --workdir=DIR, the folder of the run")
    if folder.is_file():
        raise UserError(f"{folder} is a file; --workdir needs a folder")

    from addnorm_exp.runs.checkpoint_folders import prospect
    from addnorm_exp.runs.folder import RunFolder
    from addnorm_exp.runs.lock import Busy
    from addnorm_exp.train.display import RunDisplay
    from addnorm_exp.train.loop import Stopped, check_machine
    from addnorm_exp.train.loop import run as train
    from addnorm_exp.train.program_cache import keep_programs

    if arguments[CACHE.name]:
        keep_programs()

    times = experiment.timetable
    display = RunDisplay(config.scheme, config.steps, validates=lambda step: times.due(step, "validation"))
    mirror = mirror_of(arguments, display.say, folder)
    check_machine(experiment)  # check this and W&B's settings before fetching data
    data = tasks.load(config)
    tasks.check(experiment, data.spec)
    for line in tasks.remarks(experiment, data.spec):
        to_stderr(line)
    try:
        with StopSignal(display.say) as stop, mirror:
            stop.mirror, mirror.stopping = mirror, stop
            stop.prospect = lambda: prospect(folder)
            with display:
                watch = mirror.watch(folder, display.watch)
                summary = train(experiment, data, RunFolder(folder), watch=watch, stop=stop)
            if not display.begun:
                to_stderr(f"{folder} is already finished; nothing was run")
            mirror.end()
            _conclude(summary, folder)
    except Busy:
        raise UserError(
            f"{folder}: another process is training this run; wait for it, or choose another folder"
        ) from None
    except Stopped as stopped:
        to_stderr(str(stopped))
        return stop.code
    return 0 if summary.status == "done" else 1


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
