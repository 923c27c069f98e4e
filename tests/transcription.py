"""A task with two stacks: a decoder that predicts the bytes of a window and attends to an encoder that reads the same window."""

from dataclasses import dataclass, replace

import pytest

from addnorm_exp.config import keys
from addnorm_exp.config import tasks as config_tasks
from addnorm_exp.config.key import key
from addnorm_exp.config.tasks.lm import LanguageModellingConfig
from addnorm_exp.config.tasks.task import StackSchemes
from addnorm_exp.nn.functional import Functional
from addnorm_exp.nn.models import EncoderDecoder
from addnorm_exp.residual import Depths, sites
from addnorm_exp.residual.recipe import recipe
from addnorm_exp.tasks import TASKS
from addnorm_exp.tasks.architecture import weights
from addnorm_exp.tasks.lm import VOCAB, LanguageModelling

SUBLAYERS = ("attention", "cross_attention", "feed_forward")  # of the decoder's blocks


@dataclass(frozen=True)
class EncoderDecoderSchemes(StackSchemes):
    encoder: str | None = key(None, "scheme of the encoder")
    decoder: str | None = key(None, "scheme of the decoder")


@dataclass(frozen=True)
class TranscriptionConfig(LanguageModellingConfig):
    name: str = "transcription"

    schemes = EncoderDecoderSchemes


class Transcription(LanguageModelling):
    def decoder(self, cache=None):
        arch = replace(self.arch, cache=cache)
        return Functional(
            lambda rngs: EncoderDecoder(self.scheme, arch, VOCAB, self.length, source_depth=arch.depth, rngs=rngs)
        )

    @staticmethod
    def sites(config):
        depths = Depths(encoder=config.model.depth, decoder=config.model.depth)
        return (*sites("encoder", depths), *sites("decoder", depths, SUBLAYERS))

    @staticmethod
    def recipe(experiment):
        return recipe(experiment.scheme, experiment.sites, weights(experiment, VOCAB, tied=True))

    def outputs(self, parameters, tokens, context):
        return self.model.bind(parameters)(tokens, tokens, context)[0]

    def _predict(self, parameters, probes, inputs, carried, context):
        module = self.model.bind(parameters, carried)
        logits, diagnostics = module(inputs, inputs, self.context_of(inputs, context), probes, self.dtype)
        return logits, diagnostics, self.model.running(module)


def enter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task in the tables, and the schema of configs derived from them anew. Clear `keys._leaves` after the test."""
    name = TranscriptionConfig.name
    for table, value in (
        (config_tasks.TASKS, TranscriptionConfig),
        (config_tasks.DATA, TranscriptionConfig.data),
        (config_tasks.STACKS, TranscriptionConfig.schemes),
        (TASKS, Transcription),
    ):
        monkeypatch.setitem(table, name, value)
    keys._leaves.cache_clear()
