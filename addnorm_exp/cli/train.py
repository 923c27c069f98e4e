"""`main.py train`: one run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from addnorm_exp.cli.stop import StopSignal
from addnorm_exp.cli.wandb_flags import WANDB_FLAGS, mirror_of
from addnorm_exp.config.flags import Flag, parse
from addnorm_exp.errors import UserError, to_stderr
from addnorm_exp.words import counted, loss

HELP = "train one run: --config=configs/lm.py:SCHEME [--config.KEY=VALUE …] --workdir=DIR"

FLAGS = (
    Flag("workdir", Path, help="the run's folder; the same command resumes where an earlier one stopped"),
    *WANDB_FLAGS,
)


def run(argv: list[str]) -> int:
    arguments = parse(argv, FLAGS, command="train", about=HELP, config="required")
    folder = arguments["workdir"]
    if folder is None:
        raise UserError("train needs --workdir=DIR, the folder of the run")
    config = arguments.config
    assert config is not None

    from addnorm_exp.data import corpus  # JAX and the rest only now: mistakes above are told at once
    from addnorm_exp.runs.folder import Busy, RunFolder
    from addnorm_exp.train.loop import Stopped, check_machine
    from addnorm_exp.train.loop import run as train

    check_machine(config)  # before data are fetched
    stop = StopSignal()
    try:
        with mirror_of(arguments, to_stderr, folder, stop) as mirror:
            watch = mirror.watch(folder, _tell(config.steps))
            summary = train(config, corpus.load(config.data), RunFolder(folder), watch=watch, stop=stop)
            mirror.end()
            _conclude(summary, folder)
    except Busy:
        raise UserError(
            f"{folder}: another process is training this run; wait for it, or choose another folder"
        ) from None
    except Stopped as stopped:
        to_stderr(str(stopped))
        return stop.code
    return 0 if summary["status"] == "done" else 1


def _tell(steps: int):
    def watch(event: Mapping[str, Any]) -> None:
        if event["event"] == "note":
            to_stderr(event["text"])
        if event["event"] == "start" and event["step"]:
            print(f"resumed after step {event['step']}")
        if event["event"] == "val":
            print(f"step {event['step']:>{len(str(steps))}}/{steps}  val {loss(event)}", flush=True)

    return watch


def _conclude(summary: Mapping[str, Any], folder: Path) -> None:
    if summary["status"] == "diverged":
        print(f"{summary['scheme']} diverged: {summary['reason']}  ({folder})")
        return
    steps, time = counted(summary["step"], "step"), 1e3 * summary["step_time_s"]
    print(f"{summary['scheme']}: test {loss(summary['test']['final'])} after {steps}, {time:.1f} ms a step  ({folder})")
