"""Stage `tokenizer`: speech to 12.5 codes a second, learned from what callers say.

    python -m pipelines.glm4voice.training.tokenizer [--config FILE] [--work DIR] [--start DIR]

With `--start` it goes on from the tokenizer of a released folder, whose sizes and codes it keeps:
it learns to hear more speakers, and what it makes of answers stays, so that a decoder that knows
these codes goes on speaking. A new head learns to read them before the encoder learns anything.
If the training file says so (`raises_excited`), excited answers get codes of their own
(`registers`).

Writes WORK/tokenizer in the released format and WORK/runs/tokenizer/report.json: character errors
behind the codes on held-out voices and phrasings over the telephone, and the use of the codes.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.audio import MODEL_INPUT_RATE, Pcm
from pipelines.glm4voice.hearing.config import SpeechTokenizerConfig
from pipelines.glm4voice.hearing.folder import write_tokenizer_config, write_tokenizer_weights
from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer
from pipelines.glm4voice.training.channel import held_channel
from pipelines.glm4voice.training.command import command
from pipelines.glm4voice.training.corpus import Corpus, Utterance, corpus_of
from pipelines.glm4voice.training.ctc import ctc_loss
from pipelines.glm4voice.training.files import replace_text, replacing
from pipelines.glm4voice.training.hearing_batches import (
    Alphabets,
    HearingBatch,
    HearingBatches,
    answer_at_16k,
    features,
    is_excited,
    log_mel,
    padded,
)
from pipelines.glm4voice.training.learning import descend, rate_at
from pipelines.glm4voice.training.letters import error_rate, plain
from pipelines.glm4voice.training.lineage import hold_to_origin, origin_of
from pipelines.glm4voice.training.loop import autocast, train
from pipelines.glm4voice.training.quantiser import CodebookTrainer
from pipelines.glm4voice.training.recogniser import (
    FRAMES_PER_TOKEN,
    Reading,
    Recogniser,
    masked_mean,
    vectors_of,
)
from pipelines.glm4voice.training.registers import raising_step, with_raised
from pipelines.glm4voice.training.run import Run, TrainingError, begin_from
from pipelines.glm4voice.training.settings.tokenizer import TokenizerSettings

_MOST_GRADIENT = 1.0
_BETAS = (0.9, 0.98)
_N_ROWS_TESTED = 10  # at once
_HARD_FROM = 0.4  # of the steps: until then noise and masks grow


class TokenizerStage:
    """The parts that learn, and one step of it."""

    def __init__(self, run: Run, corpus: Corpus, *, start: Path | None = None) -> None:
        """`start` is the folder of a tokenizer to begin with.

        Raises CheckpointError, and TrainingError where codes are to be raised that are not there.
        """
        self.run, self.settings = run, run.config.tokenizer
        if start is None and self.settings.raises_excited:
            raise TrainingError("raises_excited needs the codes of a tokenizer: pass --start")
        self.known = None if start is None else SpeechTokenizer.load(start, run.device)
        self.alphabets = Alphabets.of(
            u for u in (*corpus.callers, *corpus.answers) if not u.is_held
        )
        self.config = tokenizer_config(self.settings)
        self.step_up: Tensor | None = None
        begun = None
        if self.known is not None:
            codes = self._codes_of(self.known)
            self.config = replace(self.known.config, n_codes=len(codes))
            self.step_up = raising_step(codes)
            begun = {**self.known.encoder.state_dict(), "codebook.weight": codes}
        torch.manual_seed(run.seed_of()[0])
        self.model = Recogniser(
            self.config,
            n_head_layers=self.settings.n_head_layers,
            n_letters=self.alphabets.letters.n_classes,
            n_phones=self.alphabets.phones.n_classes,
        ).to(run.device)
        if begun is not None:
            self.model.encoder.load_state_dict(begun)
        self.codebook = CodebookTrainer(self.model.encoder.codebook).to(run.device)
        self.optimizer = torch.optim.AdamW(
            [p for p in self.model.parameters() if p.requires_grad],
            lr=self.settings.learning_rate,
            betas=_BETAS,
            fused=True,
        )
        self.batches = HearingBatches(
            corpus,
            self.config,
            self.alphabets,
            seconds=self.settings.seconds_per_step,
            answer_share=self.settings.answer_share,
            strength=self.settings.channel_strength,
            spread=self.settings.speaker_spread,
        )

    def _codes_of(self, known: SpeechTokenizer) -> Tensor:
        """The codes to go on with, raised ones among them if they are wanted or there already."""
        codes = known.encoder.codebook.weight
        is_raised = raising_step(codes) is not None
        return with_raised(codes) if self.settings.raises_excited and not is_raised else codes

    @property
    def parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """Everything whose state a resumed run needs."""
        return {"model": self.model, "codebook": self.codebook, "optimizer": self.optimizer}

    @property
    def first_quantised(self) -> int:
        """The step from which codes stand for vectors, some of which must have been seen.

        A run that goes on with another number of steps may be beyond it already, or has its codes
        although it lies ahead: they stay.
        """
        return max(1, int(self.settings.quantise_from * self.settings.n_steps))

    def draw(self, n: int, rng: np.random.Generator) -> HearingBatch:
        """The batch of a step: the later, the harder."""
        return self.batches.draw(rng, min(1.0, n / (_HARD_FROM * self.settings.n_steps)))

    def learn(self, n: int, batch: HearingBatch) -> dict[str, float]:
        """Learn from one batch."""
        settings = self.settings
        is_known = self.known is not None
        if n >= self.first_quantised and not is_known and not self.codebook.has_begun:
            self.codebook.begin()
        with autocast(self.run):
            reading = self.model(
                batch.mel.to(self.run.device),
                batch.real.to(self.run.device),
                quantise=is_known or self.codebook.has_begun,
                hears_as_before=is_known and n < self.first_quantised,
            )
        losses = descend(
            self.optimizer,
            self._losses(reading, batch),
            self._weights,
            rate=settings.learning_rate * rate_at(n, settings.n_steps),
            most_gradient=_MOST_GRADIENT,
        )
        if losses and not is_known:
            self._keep_codebook(n, reading, batch)
        return losses

    @property
    def _weights(self) -> Mapping[str, float]:
        return {
            "phones": 1.0,
            "letters": self.settings.letters_weight,
            "sound": self.settings.sound_weight,
            "pitch": self.settings.pitch_weight,
            "commitment": self.settings.commitment,
            "kept": self.settings.kept_weight,
            "register": self.settings.register_weight,
        }

    def _losses(self, reading: Reading, batch: HearingBatch) -> dict[str, Tensor]:
        device = reading.letters.device
        n_frames = batch.n_tokens * FRAMES_PER_TOKEN
        losses = {
            "phones": ctc_loss(reading.phones, n_frames, batch.phones.to(device)),
            "letters": ctc_loss(reading.letters, n_frames, batch.letters.to(device)),
        }
        if len(batch.sound):
            sound, pitch = batch.sound.to(device), batch.pitch.to(device)
            off = (reading.sound - sound.nan_to_num()).square().mean(dim=2)
            losses["sound"] = masked_mean(off, ~sound[:, :, 0].isnan())
            wrong = (reading.pitch - pitch.nan_to_num()).abs()
            losses["pitch"] = masked_mean(wrong, ~pitch.isnan())
        if reading.ids is not None:
            codes = self.model.encoder.codebook(reading.ids)
            apart = (reading.pooled - codes).square().mean(dim=2)
            losses["commitment"] = masked_mean(apart, self._real_tokens(batch).to(device))
        if self.known is not None and len(batch.sound):
            before = self._known_vectors(self.known, batch)
            moved = (reading.pooled - before).square().mean(dim=2)
            losses["kept"] = masked_mean(moved, self._real_tokens(batch).to(device))
        if self.step_up is not None:
            off = self._height(reading.pooled) - batch.is_excited.to(device)[:, None].float()
            losses["register"] = masked_mean(off.square(), self._real_tokens(batch).to(device))
        return losses

    def _height(self, vectors: Tensor) -> Tensor:
        """Where vectors [..., D] lie between the registers: 0 in the plain one, 1 in the raised."""
        assert self.step_up is not None
        plain = self.model.encoder.codebook.weight.chunk(2)[0].mean(dim=0)
        return (vectors - plain) @ (self.step_up / self.step_up.square().sum())

    @torch.no_grad()
    def _known_vectors(self, known: SpeechTokenizer, batch: HearingBatch) -> Tensor:
        """What vectors of answers are to be: what they were, or that in the raised register."""
        with autocast(self.run):
            mel, real = batch.mel.to(self.run.device), batch.real.to(self.run.device)
            vectors = vectors_of(known.encoder, mel, real)
        if self.step_up is None or known.n_codes == self.config.n_codes:
            return vectors
        return vectors + batch.is_excited.to(vectors.device)[:, None, None] * self.step_up

    def _keep_codebook(self, n: int, reading: Reading, batch: HearingBatch) -> None:
        is_real = self._real_tokens(batch).to(reading.pooled.device)
        vectors = reading.pooled.detach()[is_real]
        self.codebook.see(vectors)
        if reading.ids is not None:
            self.codebook.follow(vectors, reading.ids[is_real])
            if n % self.settings.restart_every == 0 and n < 0.9 * self.settings.n_steps:
                self.codebook.restart_dead()

    def _real_tokens(self, batch: HearingBatch) -> Tensor:
        """[B, N], False behind the end of a row."""
        n_tokens = batch.real.shape[1] // self.config.pool
        return torch.arange(n_tokens) < batch.n_tokens[:, None]

    def write(self) -> None:
        """Write the released files, in half precision."""
        state = self.model.encoder.state_dict()
        with replacing(self.run.work / "tokenizer") as folder:
            write_tokenizer_config(folder, self.config)
            write_tokenizer_weights(folder, {name: tensor.half() for name, tensor in state.items()})

    @torch.inference_mode()
    def read(self, pcms: Sequence[Pcm]) -> Iterator[tuple[str, list[int]]]:
        """What the head makes of the codes of each of pcms [T], and the codes."""
        mel = log_mel(self.config)
        for start in range(0, len(pcms), _N_ROWS_TESTED):
            rows = pcms[start : start + _N_ROWS_TESTED]
            mels = [features(row, self.config, mel) for row in rows]
            whole, real = padded(mels, [len(row) for row in rows], self.config)
            reading = self.model(whole.to(self.run.device), real.to(self.run.device), quantise=True)
            assert reading.ids is not None
            for row, ids, letters in zip(rows, reading.ids, reading.letters, strict=True):
                n_tokens = -(-len(row) // self.config.samples_per_token)
                best = letters[: n_tokens * FRAMES_PER_TOKEN].argmax(dim=1).tolist()
                yield self.alphabets.letters.best_path(best), ids[:n_tokens].tolist()


def tokenizer_config(settings: TokenizerSettings) -> SpeechTokenizerConfig:
    """The released configuration at the sizes of a training file."""
    return SpeechTokenizerConfig(
        sample_rate=MODEL_INPUT_RATE,
        n_fft=400,
        hop=160,
        n_mels=128,
        d_model=settings.d_model,
        n_heads=settings.n_heads,
        d_ffn=settings.d_ffn,
        n_layers=settings.n_layers,
        n_positions=1500,
        block=200,
        pool=4,
        n_codes=settings.n_codes,
    )


def report(stage: TokenizerStage, corpus: Corpus) -> dict[str, float]:
    """Character errors by kind of utterance, over the telephone, and the use of the codes."""
    n_tested, figures, ids = stage.settings.n_tested, {}, []
    for name, callers in _kinds(corpus.callers).items():
        rng = stage.run.rng(0, len(name))
        chosen = [callers[i] for i in rng.permutation(len(callers))[:n_tested]]
        heard = list(stage.read([held_channel(corpus.pcm(u), u.id) for u in chosen]))
        said = [plain(u.text) for u in chosen]
        pairs = zip((text for text, _ in heard), said, strict=True)
        figures[f"character_error_{name}"] = error_rate(pairs)
        ids += [i for _, codes in heard for i in codes]
    chosen_answers = corpus.answers[:: max(1, len(corpus.answers) // n_tested)]
    answers = [answer_at_16k(corpus, u) for u in chosen_answers]
    heard = list(stage.read(answers))
    pairs = zip((text for text, _ in heard), (plain(u.text) for u in chosen_answers), strict=True)
    figures["character_error_answers"] = error_rate(pairs)
    if stage.known is not None:
        before = stage.known.encode_batch(answers)
        n_new = stage.config.n_codes - stage.known.n_codes
        before = [
            [code + n_new * is_excited(u) for code in codes]
            for codes, u in zip(before, chosen_answers, strict=True)
        ]
        pairs_of_codes = zip((codes for _, codes in heard), before, strict=True)
        same = [a == b for now, then in pairs_of_codes for a, b in zip(now, then, strict=True)]
        figures["answer_codes_kept"] = sum(same) / len(same)
    ids += [i for _, codes in heard for i in codes]
    return figures | _use_of_codes(ids, stage.config.n_codes)


def _kinds(callers: Sequence[Utterance]) -> dict[str, list[Utterance]]:
    """Callers by what of them is held out; kinds of which there are none are left out."""
    kinds: dict[str, list[Utterance]] = {}
    for u in callers:
        new = [
            word
            for word, held in (("voice", u.is_held_voice), ("phrasing", u.is_held_phrasing))
            if held
        ]
        kinds.setdefault("_".join(["new", *new]) if new else "seen", []).append(u)
    return kinds


def _use_of_codes(ids: Sequence[int], n_codes: int) -> dict[str, float]:
    shares = np.bincount(ids, minlength=n_codes) / max(1, len(ids))
    used = shares[shares > 0]
    perplexity = float(np.exp(-(used * np.log(used)).sum()))
    return {"codes_used": float(len(used)), "code_perplexity": perplexity}


def run_stage(run: Run, *, start: Path | None = None) -> None:
    """Learn, write and report; `start` is the folder of a tokenizer to begin with.

    Raises TrainingError if there is no corpus, nothing to raise or state of another beginning, and
    CheckpointError for a broken folder.
    """
    corpus, written = corpus_of(run), run.work / "tokenizer"
    hold_to_origin(run, origin_of(corpus, start, weights="*.safetensors", written=written))
    stage = TokenizerStage(run, corpus, start=start)
    hold_to_origin(run, asdict(stage.config))
    train(run, stage.settings.n_steps, stage, stage.parts)
    stage.model.eval()
    stage.write()
    figures = report(stage, corpus)
    replace_text(run.folder / "report.json", json.dumps(figures, indent=2) + "\n")


@command
def main(argv: Sequence[str] | None) -> None:
    """The command."""
    run, start = begin_from("tokenizer", __doc__, argv)
    run_stage(run, start=start)


if __name__ == "__main__":
    sys.exit(main())
