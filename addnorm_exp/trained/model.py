"""`load("runs/…")`: a trained model to evaluate, to sample from and to look into."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from addnorm_exp import tasks
from addnorm_exp.config.schema import Config
from addnorm_exp.data.spec import DataSpec
from addnorm_exp.errors import UserError, nearest
from addnorm_exp.experiment import Experiment
from addnorm_exp.nn.functional import Parameters
from addnorm_exp.residual import Context, Scheme
from addnorm_exp.runs.folder import RunFolder
from addnorm_exp.runs.records import Summary
from addnorm_exp.tasks.classify_text import ClassifyText
from addnorm_exp.tasks.lm import LanguageModelling
from addnorm_exp.train.program import Program
from addnorm_exp.train.programs import program
from addnorm_exp.trained.generation import Cache, Decoding, Generator
from addnorm_exp.trained.inside import activations, places
from addnorm_exp.trained.parameters import WEIGHTS, kept
from addnorm_exp.trained.recorded import experiment_of, on_file


def load(folder: Path | str, weights: str = "final") -> "Trained":
    """The trained model of a run's folder. `weights`: final, or best by validation.

    Raises UserError if the folder has no finished run that keeps these weights, if their file is damaged, or if the scheme's record is
    another one now.
    """
    if weights not in WEIGHTS:
        raise UserError(f"weights={weights!r}: {nearest(weights, WEIGHTS)}")
    run = RunFolder(Path(folder))
    experiment = experiment_of(run)
    record = run.config()
    assert record is not None
    if record.scheme_digest != experiment.digest:
        raise UserError(
            f"{folder}: the record of scheme '{experiment.config.scheme}' has changed since this run; use the version that trained it"
        )
    if experiment.form:  # the model is built of the data
        _check_data(run, tasks.spec(experiment.config))
    parameters, step = kept(run, weights)
    return Trained(run, experiment, parameters, step)


def _check_data(run: RunFolder, data: DataSpec) -> None:
    """Raises UserError if these are not the data that the run was trained on."""
    record = run.config()
    assert record is not None
    if record.data.sha256 != data.sha256:
        raise UserError(f"{run.path}: {data.name} has changed since this run; restore the data that it was trained on")


class Trained:
    """A model with the parameters of one run: `path` → float32 array, as they were after `step` updates. No dropout anywhere."""

    def __init__(self, folder: RunFolder, experiment: Experiment, parameters: Mapping[str, np.ndarray], step: int):
        self.folder, self.experiment, self.step = folder, experiment, step
        self.parameters: Parameters = {path: jnp.asarray(value) for path, value in parameters.items()}

    def __repr__(self) -> str:
        count = sum(value.size for value in self.parameters.values())
        return f"<{self.config.scheme} after {self.step:,} steps: {count:,} parameters, {self.folder.path}>"

    @property
    def config(self) -> Config:
        return self.experiment.config

    @property
    def scheme(self) -> Scheme:
        """The scheme's record, with the axes that the config sets."""
        return self.experiment.scheme

    @property
    def summary(self) -> Summary:
        """summary.json: the results of training."""
        summary = self.folder.summary()
        assert summary is not None
        return summary

    @property
    def places(self) -> tuple[str, ...]:
        """The names that `activations` knows (trained/inside.py)."""
        return places(self._program.task.model.module)

    def logits(self, tokens: Any) -> jax.Array:
        """Of tokens int (batch, length). A language model: float32 (batch, length, vocabulary), where `logits[:, t]` predicts token t + 1;
        tokens are the values of bytes. A classifier: float32 (batch, classes). Raises UserError if length is above `seq_len`."""
        given = self._checked(tokens)
        with self._precision():
            return self._forward(self.parameters, given)

    def activations(self, tokens: Any, sites: Iterable[str] | None = None) -> dict[str, jax.Array]:
        """Name → float32 (batch, length, width), of tokens int (batch, length). `sites`: names, or beginnings of names such as `decoder.0`;
        not given: all (`places`). Raises UserError for a name that is no place of this model."""
        given = self._checked(tokens)
        wanted = None if sites is None else tuple(sites)
        for name in wanted or ():
            if not any(_within(place, name) for place in self.places):
                raise UserError(f"sites: {name!r}: {nearest(name, self.places)}")

        def inside(parameters: Parameters, tokens: jax.Array) -> dict[str, jax.Array]:
            task = self._program.task
            values = activations(task.model.bind(parameters), tokens, self._context(tokens), self._dtype)
            asked = [name for name in values if wanted is None or any(_within(name, each) for each in wanted)]
            return {name: values[name].reshape(*tokens.shape, -1).astype(jnp.float32) for name in asked}

        with self._precision():
            values = jax.jit(inside)(self.parameters, given)
        return {place: values[place] for place in self.places if place in values}  # a jitted function sorts them

    def evaluate(self, path: Path | str | None = None) -> dict[str, float]:
        """The metrics on the test split: of the run's own data, or of the file at `path`, split as in training (docs/install.md). On the
        run's own data they are those of summary.json, to the bit on the device that trained it."""
        if path is None:
            data = self._trained_on()
        else:
            data = self._program.task.read_as(tasks.load(on_file(self.folder, path).config), self._trained_on)
        tasks.check(self.experiment, data.spec)
        lanes = self._program.evaluate(self.parameters, self._program.put(data).test, self.step)
        assert lanes is not None  # nothing stops it
        return lanes[0]

    def generate(
        self, prompt: str, count: int = 200, *, temperature: float = 1.0, top_k: int | None = None, seed: int = 0
    ) -> str:
        """`count` bytes of text that follow the prompt (trained/generation.py). Raises UserError if the prompt is empty, or if the model
        is no language model."""
        if not isinstance(self._program.task, LanguageModelling):
            raise UserError(
                f"{self.folder.path}: its task is {self.config.task.name}; only a language model writes text"
            )
        start = np.frombuffer(prompt.encode(), np.uint8).astype(np.int32)
        if not start.size:
            raise UserError("the prompt is empty; give at least one character")
        with self._precision():
            tokens = self._generator(self.parameters, start, count, temperature=temperature, top_k=top_k, seed=seed)
        return bytes(tokens.astype(np.uint8)).decode(errors="replace")

    def classify(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """For each text the probability of each class. The data of training are loaded, since they make the vocabulary. Raises UserError if
        the model is no text classifier."""
        task = self._program.task
        if not isinstance(task, ClassifyText):
            raise UserError(
                f"{self.folder.path}: its task is {self.config.task.name}; only a text classifier knows classes"
            )
        data = self._trained_on()
        probabilities = jax.nn.softmax(self.logits(task.tokens_of(texts, data)), axis=-1)
        return [dict(zip(data.spec.classes, map(float, row), strict=True)) for row in np.asarray(probabilities)]

    def _trained_on(self) -> Any:
        """The data of training. Raises UserError if they are other ones now."""
        data = tasks.load(self.config)
        _check_data(self.folder, data.spec)
        return data

    @cached_property
    def _program(self) -> Program:
        return program(self.experiment.shape)

    @property
    def _dtype(self) -> Any:
        return jnp.dtype(self.config.model.compute_dtype)

    def _context(self, tokens: jax.Array) -> Context:
        return self._program.task.context_of(tokens, Context(step=jnp.int32(self.step)))

    def _checked(self, tokens: Any) -> jax.Array:
        given = jnp.asarray(tokens, jnp.int32)
        if given.ndim != 2 or not 0 < given.shape[1] <= self.config.seq_len:
            raise UserError(
                f"tokens of shape {given.shape}: must be (batch, length) with length from 1 to seq_len={self.config.seq_len}"
            )
        return given

    @cached_property
    def _forward(self) -> Any:
        def forward(parameters: Parameters, tokens: jax.Array) -> jax.Array:
            task = self._program.task
            logits, _ = task.model.bind(parameters)(tokens, self._context(tokens), None, self._dtype)
            return logits.reshape(*tokens.shape, -1) if isinstance(task, LanguageModelling) else logits

        return jax.jit(forward)

    @cached_property
    def _generator(self) -> Generator:
        task, length = self._program.task, self.config.seq_len
        assert isinstance(task, LanguageModelling)
        decoder = task.decoder(cache=(1, length))

        def step(parameters: Parameters, cache: Cache, tokens: jax.Array, place: Any) -> tuple[jax.Array, Cache]:
            bound = decoder.bind(parameters, cache, {"position": place})
            logits, _ = bound(tokens, self._context(tokens), None, self._dtype)
            return logits.reshape(*tokens.shape, -1), decoder.running(bound)

        empty = jax.tree.map(jnp.asarray, decoder.first_running)  # NumPy's would be written to, not replaced
        return Generator(Decoding(self._forward, step, empty), length)

    def _precision(self) -> Any:
        return jax.default_matmul_precision(self.config.model.matmul_precision)


def _within(place: str, name: str) -> bool:
    """Whether a place has this name, or lies within it."""
    return place == name or place.startswith(f"{name}.")
