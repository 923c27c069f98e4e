"""`main.py probe`: signal and gradient by depth at initialisation, for any schemes of the catalogue, without training."""

import functools
import sys
import time
from pathlib import Path
from typing import Any

from addnorm_exp.config.flags import Flag, parse
from addnorm_exp.errors import UserError, to_stderr

HELP = "measure schemes at init, without training: stream, gradients and sensitivity by depth, compared with theory"
ABOUT = f"""{HELP}

Prints slopes against depth and a verdict on each published prediction; writes probe.csv and one picture per quantity to --out.
Settings: `batch` is the decoder of configs/lm.py with ReLU on a real batch, `theory` is the setting of Xiong et al. 2020 (2002.04745)."""

FLAGS = (
    Flag("schemes", str, "all", "all, or names separated by commas", "all|a,b"),
    Flag("depths", str, "6,12,24,48", "depths in blocks, separated by commas", "N,N"),
    Flag("width", int, 256, "model width, a multiple of 8", "N", minimum=8),
    Flag("seeds", int, 3, "seeds to average over", "N", minimum=1),
    Flag("data", str, None, "a file whose bytes make the batch; default: enwik8", "FILE"),
    Flag("out", Path, Path("probe"), "the folder for probe.csv and the pictures", "DIR"),
)


def run(argv: list[str]) -> int:
    arguments = parse(argv, FLAGS, command="probe", about=ABOUT)
    depths = _depths(arguments["depths"])
    if arguments["width"] % 8:
        raise UserError(f"--width={arguments['width']}: must be divisible by 8 (4 heads of an even size)")
    schemes = _schemes(arguments["schemes"])
    from addnorm_exp.config.tasks.lm import ByteStreamConfig
    from addnorm_exp.probe import pictures, settings, table, workers
    from addnorm_exp.probe.measurements import Measurement, Probed, write
    from addnorm_exp.report.tables.render import render
    from addnorm_exp.runs.folder import make_folder
    from addnorm_exp.train.memory import require

    width, seeds = arguments["width"], arguments["seeds"]
    first = next(iter(schemes))  # schemes differ little in size
    require(settings.needed(first, depths[-1], width, seeds), "reduce --depths, --width or --seeds")
    job = workers.Job(tuple(depths), width, seeds, ByteStreamConfig(path=arguments["data"]))
    text = workers.load(job.data)
    if text.train.size <= settings.TOKENS:
        raise UserError(
            f"--data: {text.name} is too short: the probe reads {settings.TOKENS + 1} bytes at a time; use a longer file"
        )
    folder = arguments["out"]
    make_folder(folder)

    measurements: list[Measurement] = []
    began = time.monotonic()
    names = list(schemes)
    with workers.pool(workers.processes(names, job)) as each:
        by_scheme = each(functools.partial(workers.measured, job), names)
        for number, (name, of_scheme) in enumerate(zip(names, by_scheme, strict=True), 1):
            measurements += of_scheme
            to_stderr(f"probe {number}/{len(names)}  {name}  ({time.monotonic() - began:.0f} s)")
        with (folder / "probe.csv").open("w", newline="") as file:
            write(measurements, file)
        probed = Probed(measurements)
        sys.stdout.write(render(table.tables(probed, schemes, width, seeds)))
        sys.stdout.flush()
        files = [path.name for path in pictures.draw(probed, folder, each) if path.suffix == ".png"]
    print(f"probe.csv and pictures: {folder} ({', '.join(files)})")
    return 0


def _schemes(text: str) -> dict[str, Any]:
    """Name → `residual.Scheme`, in the requested order."""
    from addnorm_exp.residual import SchemeError, catalogue

    names = catalogue.names() if text == "all" else [name.strip() for name in text.split(",")]
    try:
        return {name: catalogue.get(name) for name in names}
    except SchemeError as error:
        raise UserError(f"--schemes={text}: {error}") from None


def _depths(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= 1000 for part in parts):
        raise UserError(
            f"--depths={text}: expected whole numbers from 1 to 1000, separated by commas, e.g. --depths=6,12"
        )
    return sorted({int(part) for part in parts})
