"""Stage `flow`: speech tokens to mel frames of the answering voice, whole and block by block.

    python -m pipelines.glm4voice.training.flow [--config FILE] [--work DIR] [--start DIR]

Needs WORK/tokenizer, whose codes of the answers it learns from. With `--start` it goes on from the
flow of a released folder, whose sizes it keeps and whose vocoder comes along if WORK has none. If
the tokenizer has a raised register of the codes that this flow knows, it learns the pitch of both
and nothing else (`flow_register`).

Writes WORK/decoder/config.yaml and flow.pt in the released format, and WORK/runs/flow/report.json:
how far the mel of sentences not learned is from the original, whole and streamed in blocks of ten
tokens.
"""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.audio import Pcm
from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer
from pipelines.glm4voice.speaking.decoder import FLOW_NAME, HIFT_NAME, OFFICIAL_STEPS, SpeechDecoder
from pipelines.glm4voice.speaking.folder import write_decoder_config, write_flow
from pipelines.glm4voice.speaking.hift import HiftVocoder
from pipelines.glm4voice.speaking.noise import NoiseField
from pipelines.glm4voice.speaking.stream import StreamBlock, StreamingDecoder
from pipelines.glm4voice.training.answer_sounds import (
    cepstral_distance_db,
    log_mel,
    mean,
    mel_distance,
    split_answers,
    whole_frames,
)
from pipelines.glm4voice.training.command import command
from pipelines.glm4voice.training.corpus import Corpus, Utterance, corpus_of
from pipelines.glm4voice.training.decoder_sizes import decoder_config, keeping
from pipelines.glm4voice.training.encoding import encoded
from pipelines.glm4voice.training.files import replace_text, replacing
from pipelines.glm4voice.training.flow_batches import FlowBatch, FlowBatches, Spoken
from pipelines.glm4voice.training.flow_model import FlowModel
from pipelines.glm4voice.training.flow_register import RegisterModel, rises_of
from pipelines.glm4voice.training.hearing_batches import answer_at_16k
from pipelines.glm4voice.training.learning import descend, rate_at
from pipelines.glm4voice.training.lineage import flat, hold_to, hold_to_origin, origin_of
from pipelines.glm4voice.training.loop import autocast, train
from pipelines.glm4voice.training.registers import grown
from pipelines.glm4voice.training.run import Run, TrainingError, begin_from

_EMBEDDING = "input_embedding.weight"
_BETAS = (0.9, 0.98)
_MOST_GRADIENT = 1.0
_BLOCK_TOKENS = 10
_PART = 16  # answers of about the same length, encoded at once
_SEED = 42


class FlowStage:
    """The parts that learn, and one step of it."""

    def __init__(
        self,
        run: Run,
        corpus: Corpus,
        tokenizer: SpeechTokenizer,
        *,
        start: Path | None = None,
    ) -> None:
        """`start` is the folder of a decoder to begin with.

        Raises CheckpointError, and TrainingError where that decoder knows other codes.
        """
        self.run, self.settings = run, run.config.flow
        known = None if start is None else SpeechDecoder.load(start)
        config = decoder_config(run.config) if known is None else known.config
        self.config = replace(config, flow=replace(config.flow, vocab_size=tokenizer.n_codes))
        self._corpus, self._tokenizer = corpus, tokenizer
        learned, tested = split_answers(corpus, self.settings.n_tested)
        spoken, self.tested = self._spoken(learned), self._spoken(tested)
        torch.manual_seed(run.seed_of()[0])
        whole = FlowModel(
            self.config,
            tokenizer.encoder.codebook.weight.cpu(),
            torch.cat([one.mel for one in spoken], dim=1).mean(dim=1),
            self.settings.condition_drop,
        )
        self.model: FlowModel | RegisterModel = whole
        if known is not None:
            whole.flow.load_state_dict(_known_state(known, tokenizer.n_codes))
            if known.vocab_size < tokenizer.n_codes:
                rises = rises_of(spoken, known.vocab_size)
                self.model = RegisterModel(whole.flow, rises, self.settings.emphasis)
        self.model.to(run.device)
        self.optimizer = torch.optim.AdamW(
            [p for p in self.model.parameters() if p.requires_grad],
            lr=self.settings.learning_rate,
            betas=_BETAS,
            fused=True,
        )
        # any vocoder of the configuration says how many frames a stream keeps back
        decoder = SpeechDecoder(
            self.config,
            self.model.flow,
            HiftVocoder(self.config.hift).to(run.device),
            n_steps=OFFICIAL_STEPS,
        )
        self.stream = StreamingDecoder(decoder)
        self.batches = FlowBatches(spoken, self.stream.mel.cutting, self.settings.tokens_per_step)

    @property
    def parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """Everything whose state a resumed run needs."""
        return {"model": self.model, "optimizer": self.optimizer}

    @property
    def sizes(self) -> Mapping[str, Any]:
        """What the flow is like; how much it is guided is not learned."""
        sizes = asdict(self.config.flow)
        return flat({name: size for name, size in sizes.items() if name != "inference_cfg_rate"})

    def draw(self, n: int, rng: np.random.Generator) -> FlowBatch:
        """A batch of windows; all steps draw alike."""
        return self.batches.draw(rng)

    def learn(self, n: int, batch: FlowBatch) -> dict[str, float]:
        """Learn from it."""
        settings = self.settings
        with autocast(self.run):
            losses = self.model(self._on_device(batch))
        return descend(
            self.optimizer,
            losses,
            self._weights,
            rate=settings.learning_rate * rate_at(n, settings.n_steps),
            most_gradient=_MOST_GRADIENT,
        )

    @property
    def _weights(self) -> dict[str, float]:
        return {"flow": 1.0, "prior": self.settings.prior_weight}

    def _spoken(self, utterances: Sequence[Utterance]) -> list[Spoken]:
        """Tokens and mels of answers, which begin together and end together."""
        order = sorted(range(len(utterances)), key=lambda n: utterances[n].n_samples)
        parts = range(0, len(order), _PART)

        def sounds(part: int) -> list[Pcm]:
            chosen = order[part : part + _PART]
            return [answer_at_16k(self._corpus, utterances[place]) for place in chosen]

        spoken: dict[int, Spoken] = {}
        with encoded(self._tokenizer, sounds, parts, self.run.n_preprocessing_workers) as codes:
            for place, ids in zip(order, chain.from_iterable(codes), strict=True):
                spoken[place] = self._with_mel(utterances[place], ids.tolist())
        return [spoken[place] for place in range(len(utterances))]

    def _with_mel(self, utterance: Utterance, ids: list[int]) -> Spoken:
        pcm = whole_frames(self._corpus, utterance, self.config.n_frames(len(ids)))
        return Spoken(torch.tensor(ids), log_mel(pcm[None])[0])

    def _on_device(self, batch: FlowBatch) -> FlowBatch:
        device = self.run.device
        return replace(
            batch,
            ids=batch.ids.to(device),
            token_of=batch.token_of.to(device),
            mel=batch.mel.to(device),
            given=batch.given.to(device),
        )

    def write(self) -> None:
        """Write the released files, in half precision; config.yaml still tells of a vocoder."""
        if isinstance(self.model, RegisterModel):
            self.model.settle()
        folder = self.run.work / "decoder"
        config = keeping("hift", folder, self.config)
        with replacing(folder) as new:
            write_decoder_config(new, config)
            write_flow(new, self.model.flow, torch.float16)

    @torch.inference_mode()
    def report(self) -> dict[str, float]:
        """Distances from originals that were not learned."""
        ways = {"whole": self.whole, "streamed": self.streamed, "prior": self.prior}
        figures = {}
        for name, way in ways.items():
            mels = [way(one) for one in self.tested]
            pairs = [(mel, one.mel) for mel, one in zip(mels, self.tested, strict=True)]
            figures[f"{name}_mel_distance"] = mean([mel_distance(*pair) for pair in pairs])
            figures[f"{name}_cepstral_distance_db"] = mean(
                [cepstral_distance_db(*p) for p in pairs]
            )
        return figures

    def whole(self, one: Spoken) -> Tensor:
        """The mel [M, T] of all tokens in one block."""
        noise = NoiseField(_SEED).flow(*(len(one.mel), 0, one.mel.shape[1]))[None]
        given = noise[:, :, :0].to(self.run.device)
        ids = one.ids[None].to(self.run.device)
        return self.model.flow(ids, noise=noise, given=given, n_steps=OFFICIAL_STEPS)[0].cpu()

    def streamed(self, one: Spoken) -> Tensor:
        """The mel [M, T] in blocks of ten tokens, as the first ones of a call."""
        state, mels = self.stream.start(seed=_SEED), []
        for ids in one.ids.split(_BLOCK_TOKENS):
            mels += self.stream.advance([StreamBlock(ids.tolist(), state)])
        mels += self.stream.advance([StreamBlock([], state, final=True)])
        return torch.cat(mels, dim=2)[0].cpu()

    def prior(self, one: Spoken) -> Tensor:
        """The mel [M, T] that the flow begins from."""
        return self.model.flow.mu(self.model.flow.encode(one.ids[None].to(self.run.device)))[
            0
        ].cpu()


def _known_state(known: SpeechDecoder, n_codes: int) -> dict[str, Tensor]:
    """The state of a flow that others know, for as many codes. Raises TrainingError."""
    state = known.flow.state_dict()
    try:
        state[_EMBEDDING] = grown(state[_EMBEDDING], n_codes)
    except ValueError as exc:
        raise TrainingError(f"the speech tokenizer is none of that decoder's: {exc}") from exc
    return state


@command
def main(argv: Sequence[str] | None) -> None:
    """The command."""
    run, start = begin_from("flow", __doc__, argv)
    run_stage(run, start=start)


def run_stage(run: Run, *, start: Path | None = None) -> None:
    """Learn, write and report; `start` is the folder of a decoder to begin with.

    Raises TrainingError, and CheckpointError without a tokenizer or for a broken folder.
    """
    corpus, written = corpus_of(run), run.work / "decoder"
    hold_to_origin(run, origin_of(corpus, start, weights=FLOW_NAME, written=written))
    tokenizer = SpeechTokenizer.load(run.work / "tokenizer", run.device)
    hold_to(run, run.work / "tokenizer")
    stage = FlowStage(run, corpus, tokenizer, start=start)
    hold_to_origin(run, stage.sizes)
    train(run, stage.settings.n_steps, stage, stage.parts)
    stage.model.eval()
    stage.write()
    if start is not None and not (run.work / "decoder" / HIFT_NAME).exists():
        with replacing(run.work / "decoder") as new:
            shutil.copyfile(start / HIFT_NAME, new / HIFT_NAME)
    figures = stage.report()
    replace_text(run.folder / "report.json", json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
