"""Stage `vocoder`: mel frames to the sound of the answering voice.

    python -m pipelines.glm4voice.training.vocoder [--config FILE] [--work DIR] [--start DIR]

With `--start` it goes on from the vocoder of a released folder, whose sizes it keeps.

Writes WORK/decoder/config.yaml and hift.pt in the released format, and
WORK/runs/vocoder/report.json: how far a copy of sentences not learned is from the original.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.glm4voice.speaking.config import read_decoder_config
from pipelines.glm4voice.speaking.decoder import CONFIG_NAME, HIFT_NAME
from pipelines.glm4voice.speaking.folder import write_decoder_config, write_vocoder
from pipelines.glm4voice.speaking.hift import HiftVocoder
from pipelines.glm4voice.speaking.hift_source import Chance
from pipelines.glm4voice.training.answer_sounds import (
    HOP,
    cepstral_distance_db,
    log_mel,
    mean,
    mel_distance,
    pitch_of,
    split_answers,
    whole_frames,
)
from pipelines.glm4voice.training.command import command
from pipelines.glm4voice.training.corpus import Corpus, Utterance, corpus_of
from pipelines.glm4voice.training.decoder_sizes import decoder_config, keeping
from pipelines.glm4voice.training.drawing import drawn
from pipelines.glm4voice.training.files import replace_text, replacing
from pipelines.glm4voice.training.learning import descend, rate_at
from pipelines.glm4voice.training.lineage import hold_to_origin, origin_of
from pipelines.glm4voice.training.loop import train
from pipelines.glm4voice.training.run import Run, begin_from
from pipelines.glm4voice.training.sound_losses import line_loss, mel_loss, spectral_loss

_BETAS = (0.8, 0.99)
_MOST_GRADIENT = 5.0
_QUIET = -3.0  # the logarithm of all magnitudes at first: as released they would begin at 1
_PITCH_HZ, _PITCH_SPREAD_HZ = 80.0, 40.0


@dataclass(frozen=True, slots=True)
class Cuttings:
    """Rows of equal length: sound [B, T * HOP], mel [B, N_MELS, T] and pitch [B, T] of the same
    frames; and further rows, of which only mel and pitch are learned from."""

    pcm: Tensor
    mel: Tensor
    pitch: Tensor
    more_mel: Tensor
    more_pitch: Tensor


@dataclass(frozen=True, slots=True)
class _Heard:
    """What is kept of an utterance: its sound stays on disk."""

    utterance: Utterance
    mel: Tensor  # [N_MELS, T]
    pitch: Tensor  # [T], Hz


class VocoderStage:
    """The parts that learn, and one step of it. Always float32: see `HiftVocoder`."""

    def __init__(self, run: Run, corpus: Corpus, *, start: Path | None = None) -> None:
        """`start` is the folder of a decoder to begin with. Raises CheckpointError."""
        self.run, self.settings = run, run.config.vocoder
        known = None if start is None else read_decoder_config(start / CONFIG_NAME)
        self.config = decoder_config(run.config) if known is None else known
        learned, self.tested = split_answers(corpus, self.settings.n_tested)
        self.corpus = corpus
        places = range(len(learned))
        with drawn(
            lambda n: _heard(corpus, learned[n]), places, run.n_preprocessing_workers
        ) as heard:
            self._learned = list(heard)
        lengths = np.array([len(one.pitch) for one in self._learned], dtype=np.float64)
        self._odds = lengths / lengths.sum()
        torch.manual_seed(run.seed_of()[0])
        self.hift = HiftVocoder(self.config.hift).to(run.device)
        if start is None:
            self._begin_near()
        else:
            begun = HiftVocoder.load(start / HIFT_NAME, self.config.hift, device=run.device)
            self.hift.load_state_dict(begun.state_dict())
        self.optimizer = torch.optim.AdamW(
            self.hift.parameters(), lr=self.settings.learning_rate, betas=_BETAS, fused=True
        )

    def _begin_near(self) -> None:
        """Scale what the vocoder begins with to sound and pitch: steps are small beside 100 Hz."""
        quiet, pitch = self.hift.conv_post.bias, self.hift.f0_predictor.classifier
        assert quiet is not None
        with torch.no_grad():
            quiet[: self.config.hift.n_fft // 2 + 1] = _QUIET
            pitch.weight.mul_(_PITCH_SPREAD_HZ)
            pitch.bias.fill_(_PITCH_HZ)

    @property
    def parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """Everything whose state a resumed run needs."""
        return {"hift": self.hift, "optimizer": self.optimizer}

    def draw(self, n: int, rng: np.random.Generator) -> Cuttings:
        """A batch of cuttings; all steps draw alike."""
        settings = self.settings
        rows = [self._cutting(rng, settings.frames_per_row) for _ in range(settings.rows_per_step)]
        n_more, n_frames = settings.pitch_rows_per_step, settings.pitch_frames_per_row
        more = [self._cutting(rng, n_frames) for _ in range(n_more)]
        pcm, mel, pitch = (torch.stack(part) for part in zip(*rows, strict=True))
        _, more_mel, more_pitch = (torch.stack(part) for part in zip(*more, strict=True))
        return Cuttings(pcm, mel, pitch, more_mel, more_pitch)

    def learn(self, n: int, batch: Cuttings) -> dict[str, float]:
        """Learn from it."""
        settings = self.settings
        return descend(
            self.optimizer,
            self.losses(batch),
            self._weights,
            rate=settings.learning_rate * rate_at(n, settings.n_steps),
            most_gradient=_MOST_GRADIENT,
        )

    def losses(self, batch: Cuttings) -> dict[str, Tensor]:
        """How far copies with an excitation of the true pitch are from a batch, and a guessed pitch
        from the true one."""
        device = self.run.device
        pcm, mel, pitch = batch.pcm.to(device), batch.mel.to(device), batch.pitch.to(device)
        made = self.hift(mel, self._source(pitch))
        guessed = self.hift.f0_predictor(batch.more_mel.to(device))
        return {
            "stft": spectral_loss(made, pcm),
            "mel": mel_loss(made, mel),
            "lines": line_loss(made, pcm),
            "pitch": (guessed - batch.more_pitch.to(device)).abs().mean(),
        }

    @property
    def _weights(self) -> dict[str, float]:
        settings = self.settings
        return {
            "stft": settings.stft_weight,
            "mel": settings.mel_weight,
            "lines": settings.line_weight,
            "pitch": settings.pitch_weight,
        }

    def _cutting(self, rng: np.random.Generator, n_frames: int) -> tuple[Tensor, Tensor, Tensor]:
        """Some frames from anywhere: sound, mel and pitch; short utterances have silence behind."""
        one = self._learned[rng.choice(len(self._learned), p=self._odds)]
        start = int(rng.integers(max(1, len(one.pitch) - n_frames + 1)))
        pcm = whole_frames(self.corpus, one.utterance)
        return _cut(pcm, one, start, n_frames)

    def _source(self, pitch: Tensor) -> Tensor:
        """The excitation [B, 1, S] of pitch [B, T], its chance drawn from torch's generator."""
        n_rows, n_samples = self.hift.m_source.n_rows, pitch.shape[1] * HOP
        phases = (torch.rand(len(pitch), n_rows) * 2 - 1) * torch.pi
        phases[:, 0] = 0
        noise = torch.randn(len(pitch), n_rows, n_samples)
        return self.hift.m_source(pitch, Chance(phases, noise))

    def write(self) -> None:
        """Write the released files, in half precision; config.yaml still tells of a flow."""
        folder = self.run.work / "decoder"
        config = keeping("flow", folder, self.config)
        with replacing(folder) as new:
            write_decoder_config(new, config)
            write_vocoder(new, self.hift, torch.float16)

    @torch.inference_mode()
    def report(self) -> dict[str, float]:
        """Distances of copies from originals that were not learned."""
        off, off_db, off_hz = [], [], []
        for utterance in self.tested:
            one = _heard(self.corpus, utterance)
            mel = one.mel[None].to(self.run.device)
            pitch = self.hift.f0_predictor(mel)
            copy = log_mel(self.hift(mel, self._source(pitch)))[0].cpu()
            off.append(mel_distance(copy, one.mel))
            off_db.append(cepstral_distance_db(copy, one.mel))
            off_hz.append(float((pitch[0].cpu() - one.pitch).abs()[one.pitch > 0].mean()))
        return {
            "copy_mel_distance": mean(off),
            "copy_cepstral_distance_db": mean(off_db),
            "pitch_error_hz": mean(off_hz),
        }


def _heard(corpus: Corpus, utterance: Utterance) -> _Heard:
    pcm = whole_frames(corpus, utterance)
    return _Heard(utterance, log_mel(pcm[None])[0], pitch_of(pcm))


def _cut(pcm: Tensor, one: _Heard, start: int, n_frames: int) -> tuple[Tensor, Tensor, Tensor]:
    cut_pcm = pcm[start * HOP : (start + n_frames) * HOP]
    mel = one.mel[:, start : start + n_frames]
    pitch = one.pitch[start : start + n_frames]
    missing = n_frames - len(pitch)
    pad = nn.functional.pad
    return (
        pad(cut_pcm, (0, missing * HOP)),
        pad(mel, (0, missing), value=float(one.mel.min())),
        pad(pitch, (0, missing)),
    )


@command
def main(argv: Sequence[str] | None) -> None:
    """The command."""
    run, start = begin_from("vocoder", __doc__, argv)
    run_stage(run, start=start)


def run_stage(run: Run, *, start: Path | None = None) -> None:
    """Learn, write and report; `start` is the folder of a decoder to begin with.

    Raises TrainingError, and CheckpointError for a broken folder.
    """
    corpus, written = corpus_of(run), run.work / "decoder"
    hold_to_origin(run, origin_of(corpus, start, weights=HIFT_NAME, written=written))
    stage = VocoderStage(run, corpus, start=start)
    hold_to_origin(run, asdict(stage.config.hift))
    train(run, stage.settings.n_steps, stage, stage.parts)
    stage.write()
    figures = stage.report()
    replace_text(run.folder / "report.json", json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
