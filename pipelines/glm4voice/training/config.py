"""A training file: the seed and one section per stage, read strictly.

Nothing here loads torch, so that a wrong file is refused at once.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from config.strict_yaml import read_model
from pipelines.glm4voice.training.settings.base import StrictSettings
from pipelines.glm4voice.training.settings.corpus import CorpusSettings
from pipelines.glm4voice.training.settings.evaluate import EvaluateSettings
from pipelines.glm4voice.training.settings.flow import FlowSettings
from pipelines.glm4voice.training.settings.language_model import LanguageModelSettings
from pipelines.glm4voice.training.settings.lora import LoraSettings
from pipelines.glm4voice.training.settings.tokenizer import TokenizerSettings
from pipelines.glm4voice.training.settings.vocoder import VocoderSettings

ROOT = Path(__file__).resolve().parents[3]
FULL = ROOT / "config/training/twin.yaml"
FAST = ROOT / "config/training/fast.yaml"


class TrainingConfig(StrictSettings):
    """Everything a training run is told; two runs with equal files make equal models."""

    seed: Annotated[int, Field(ge=0)]
    corpus: CorpusSettings
    tokenizer: TokenizerSettings = TokenizerSettings()
    vocoder: VocoderSettings = VocoderSettings()
    flow: FlowSettings = FlowSettings()
    language_model: LanguageModelSettings = LanguageModelSettings()
    lora: LoraSettings = LoraSettings()
    evaluate: EvaluateSettings = EvaluateSettings()


def read_config(path: Path) -> TrainingConfig:
    """Read a training file. Raises config.strict_yaml.PromptFileError."""
    return read_model(path, TrainingConfig)
