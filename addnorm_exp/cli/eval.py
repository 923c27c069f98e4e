"""`main.py eval RUN`: how good a trained model is, on its own test split or on a file."""

from pathlib import Path

from addnorm_exp.cli.weights_flag import WEIGHTS
from addnorm_exp.config.flags import parse
from addnorm_exp.errors import UserError

HELP = "the test metrics of a trained model: RUN [--config.data.path=FILE] [--weights=final|best]"

FLAGS = (WEIGHTS,)


def run(argv: list[str]) -> int:
    arguments = parse(argv, FLAGS, command="eval", about=HELP, config="optional", positionals=("RUN",))
    overrides = arguments.overrides or {}
    other = next((key for key in overrides if key != "data.path"), None)
    if other is not None or arguments.config_file:
        flag = f"--config.{other}" if other else "--config"
        raise UserError(f"eval: {flag}: the run's own config counts; only --config.data.path=FILE may be given")

    from addnorm_exp.runs.metrics import figure, metrics_of
    from addnorm_exp.trained.model import load
    from addnorm_exp.words import counted

    model = load(Path(arguments.positionals[0]), arguments["weights"])
    path = overrides.get("data.path")
    metrics = model.evaluate(None if path is None else str(path))
    name = path or model.config.data.path or model.config.data.name
    tested = figure(metrics, metrics_of(model.summary))
    print(
        f"{model.config.scheme}: test {tested} on {name}  ({arguments['weights']} weights, after "
        f"{counted(model.step, 'step')}; {model.folder.path})"
    )
    return 0
