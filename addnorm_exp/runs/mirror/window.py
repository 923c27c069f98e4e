"""One run on W&B, through its client: opened under its id, sent the rows that it lacks, closed.

The server knows the end of its history (`starting_step` of a resumed run), and rows do not depend on when they are read. So nothing is
sent twice, however often a run is stopped, rewound, killed, or uploaded again.
"""

import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from addnorm_exp.errors import UserError, one_line
from addnorm_exp.runs.folder import FINISHED, RunFolder, write_json
from addnorm_exp.runs.layers import read_layers
from addnorm_exp.runs.lock import locked
from addnorm_exp.runs.mirror.forms import about, plan_of, to_plan, to_summary
from addnorm_exp.runs.mirror.rows import RowReader
from addnorm_exp.runs.mirror.settings import Place, patience

SUMMARY_EVERY = 30.0  # seconds
PICTURES = 8  # of a whole run, at most
PICTURE_EVERY = 30.0  # seconds
LEDGER = "mirror.json"


def claimed(folder: Path) -> AbstractContextManager[None]:
    """Locks the mirror of a run for this process. Raises Busy if another process is mirroring it."""
    (folder / "wandb").mkdir(exist_ok=True)
    return locked(folder / "wandb" / "lock")


class Window:
    """A run that is open on W&B (`mode` online) or in an offline run of the client (`mode` offline).

    It is opened under `id`; None means its former id, or its first.
    """

    def __init__(self, folder: Path, place: Place, mode: str, id: str | None = None):
        import wandb

        self.folder, self.mode = folder, mode
        run = about(folder)
        if run is None:
            raise UserError(f"{folder}: no run has begun here")
        summary = RunFolder(folder).summary()
        self.steps = (summary and summary.steps) or 0
        ledger = read_ledger(folder)
        project, entity = place_of(place, ledger)
        on_cpu = summary is not None and summary.at("device", "platform") == "cpu"  # only this program to sample
        self.run: Any = wandb.init(
            project=project,
            entity=entity,
            id=id or ledger.get("id") or run.id,
            name=run.name,
            group=run.group,
            job_type=run.job_type,
            tags=run.tags,
            config=run.config,
            dir=str(folder),
            mode="online" if mode == "online" else "offline",
            resume="allow",
            reinit="create_new",  # other runs may be open beside it
            settings=wandb.Settings(
                init_timeout=patience("WANDB_INIT_TIMEOUT"),
                finish_timeout=patience("WANDB_FINISH_TIMEOUT"),
                finish_timeout_raises=True,
                console="off",
                silent=True,
                disable_code=True,
                disable_git=True,
                save_code=False,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_disable_stats=on_cpu,
                x_save_requirements=False,
            ),
        )
        # An offline run cannot ask the server, so it uses the ledger. A sweep agent sets its own id.
        known = ledger if ledger.get("id") == self.run.id else {}
        after = int(known.get("step", -1)) if mode != "online" else int(self.run.starting_step) - 1
        self.rows = RowReader(folder, after)
        self.sent = 0  # rows
        self._place = {"id": self.run.id, "project": self.run.project, "entity": self.run.entity or None}
        self._summarised = self._pictured = 0.0
        self._pictures = self._share(after)
        self._define()
        self._note()
        if plan := plan_of(folder):
            copy = folder.resolve() / "wandb" / "study.json"
            write_json(copy, to_plan(plan))
            self.run.save(str(copy), str(copy.parent), policy="now")

    @property
    def url(self) -> str:
        return str(self.run.url or "")

    def feed(self, ended: bool = False) -> None:
        """Sends completed rows; also a picture and the summary at intervals, and when the run has `ended`."""
        whole = self.rows.poll(ended)
        for place, (step, row) in enumerate(whole):
            last = place == len(whole) - 1
            self.run.log({**row, **(self._picture(step, ended) if last else {})}, step=step, commit=True)
            self.sent += 1
        if whole:
            self._note()
        if ended or time.monotonic() - self._summarised > SUMMARY_EVERY:
            self._summarised = time.monotonic()
            if summary := RunFolder(self.folder).summary():
                self.run.summary.update(to_summary(summary))

    def close(self, ended: bool) -> None:
        """Sends the rest and waits until the server has it. Raises TimeoutError if that takes too long."""
        self.feed(ended)
        summary = RunFolder(self.folder).summary()
        status = summary and summary.status
        if status == "running":
            self.run.mark_preempting()  # stopped or killed, not failed: the same command continues it
        self.run.finish(exit_code=0 if status in FINISHED else 1)
        self._note(finished=ended and self.mode == "online")

    def _define(self) -> None:
        for name in ("step", "tokens"):
            self.run.define_metric(name, hidden=True)
        for name in ("train/*", "val/*", "layers/*"):
            self.run.define_metric(name, step_metric="step")

    def _note(self, finished: bool = False) -> None:
        """Writes the ledger: where the run is, under which id, up to which step, and (`finished`) when a completely sent run ended."""
        summary = RunFolder(self.folder).summary()
        server = {"server": self.run.settings.base_url} if self.mode == "online" else {}
        end = {"finished": summary and summary.finished} if finished else {}
        entries = {**self._place, "step": self.rows.after, "mode": self.mode, **server, **end}
        write_json(self.folder / "wandb" / LEDGER, entries)

    def _share(self, step: int) -> int:
        return PICTURES * max(step, 0) // max(self.steps, 1)

    def _picture(self, step: int, ended: bool) -> dict[str, Any]:
        """A heatmap if one is due: at every eighth of the run, but not too often, and at its end."""
        due = self._share(step) > self._pictures and time.monotonic() - self._pictured > PICTURE_EVERY
        if self.rows.last_layers < 0 or not (due or ended):
            return {}
        self._pictures, self._pictured = self._share(step), time.monotonic()
        from addnorm_exp.runs.mirror.picture import heatmap

        try:
            layers = read_layers(self.folder / "layers")
        except UserError:  # a damaged chunk affects the picture, but no curve
            layers = None
        image = heatmap(layers) if layers else None
        if image is None:
            return {}
        import wandb

        return {"layers/heatmap": wandb.Image(image)}


def read_ledger(folder: Path) -> dict[str, Any]:
    """mirror.json; {} if it is missing or unreadable."""
    try:
        ledger = json.loads((folder / "wandb" / LEDGER).read_text())
    except (OSError, ValueError):
        return {}
    return ledger if isinstance(ledger, dict) else {}


def place_of(place: Place, ledger: Mapping[str, Any]) -> tuple[str, str | None]:
    """Project and entity of a run. A ledger of another server does not count."""
    import wandb

    here = ledger.get("server") in (None, wandb.setup().settings.base_url)
    return place.of(ledger if here else {})


def reason(error: BaseException) -> str:
    """The client's message in one line, without its advice on settings that a user cannot reach here."""
    text = str(error).partition("\nConsider increasing")[0].removeprefix("Timed out while retrying: ")
    text = text.replace(
        "Failed to execute API request: the service process is busy and did not respond in time", "no answer"
    )
    return (one_line(text, 200) or type(error).__name__).rstrip(".")
