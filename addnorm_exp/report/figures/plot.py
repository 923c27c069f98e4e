"""Writes a study's pictures, PNG and SVG, to its `figures` folder. If the record lacks the data of a picture, a line says so."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from addnorm_exp.errors import UserError, to_stderr
from addnorm_exp.report.figures import gradients, learning_curves, multiples, sensitivity, style
from addnorm_exp.report.figures.looks import looks_of
from addnorm_exp.report.load import StudyRuns, load_studies
from addnorm_exp.report.protocol.groups import Reported, labelled, reported
from addnorm_exp.report.protocol.notes import copy_notes, how_far, nothing_finished, semantics_notes
from addnorm_exp.words import counted

FIGURES: dict[str, Callable[[StudyRuns, Reported], Figure | str]] = {
    "learning_curves": lambda study, report: learning_curves.draw(report, looks_of(study, report), study.baseline),
    "lr_sensitivity": sensitivity.draw,
    "grad_norm_heatmap": lambda study, report: gradients.heatmap(report),
    "grad_norm_by_depth": lambda study, report: gradients.by_depth(report, looks_of(study, report), study.baseline),
}
# Pictures for many rows, which do not fit in the panels above.
OF_MANY: dict[str, Callable[[StudyRuns, Reported], Figure | str]] = {
    "training_curves": lambda study, report: learning_curves.each(report, study.baseline, "train"),
    "grad_weight_by_depth": lambda study, report: gradients.each(report, study.baseline, "grad_weight"),
}


def plot(
    directory: Path | str,
    out: Path | str | None = None,
    *,
    mix_semantics: bool = False,
    labels: str = "titles",
    say: Callable[[str], None] = to_stderr,
) -> list[Path]:
    """Draws every study under `directory`; returns the written files, PNG and SVG of each picture.

    `labels` sets the names in legends: titles (Peri-LN, RMSNorm) or names (peri_ln, norm.kind = rms).
    The files are written to `<study>/figures/` (of runs on several data sets, to one folder per data set in it), or to `out` (with
    several studies, to one folder per study). `say` is called with a line about each picture that could not be drawn.

    Raises:
        UserError: `load_studies` refuses every study (if only some, the others are drawn); a folder cannot be written.
    """
    studies, problems = load_studies(directory, mix_semantics=mix_semantics)
    written: list[Path] = []
    for study in studies:
        if out is None:
            target = study.path / "figures" / study.part
        else:
            target = Path(out) / study.name if len(studies) + len(problems) > 1 else Path(out)
        written += draw(study, target, say, labels)
    for problem in problems:
        say(f"error: {problem}")
    return written


def draw(study: StudyRuns, target: Path, say: Callable[[str], None] = to_stderr, labels: str = "titles") -> list[Path]:
    """Draws one study's pictures into `target`, which is created if needed."""
    report = labelled(reported(study), study, labels)
    for line in (*semantics_notes(study), *copy_notes(study)):
        say(f"{study.name}: {line}")
    written: list[Path] = []
    lacking: dict[str, list[str]] = {}  # reason → pictures
    unfinished = nothing_finished(study.runs)
    if not unfinished and how_far(study.runs):
        finished = sum(run.finished for run in study.runs)
        say(f"{study.name}: pictures of {finished} of {counted(len(study.runs), 'run')} ({how_far(study.runs)})")
    wanted = FIGURES | (OF_MANY if multiples.many(multiples.drawable(report)) else {})
    with style.paper():
        for name, make in wanted.items():
            figure = make(study, report)
            if isinstance(figure, str):
                lacking.setdefault(unfinished or figure, []).append(name)
                continue
            if unfinished:
                say(f"{study.name}: {name} shows the runs so far: {unfinished}")
            try:
                target.mkdir(parents=True, exist_ok=True)
                written += style.save(figure, target, name)
            except OSError as error:
                raise UserError(
                    f"{target}: cannot be written ({error.strerror}); choose a folder with --out=DIR"
                ) from None
    for reason, names in lacking.items():
        result = "nothing drawn" if len(names) == len(wanted) else f"{', '.join(names)} not drawn"
        say(f"{study.name}: {result}: {reason}")
    return written
