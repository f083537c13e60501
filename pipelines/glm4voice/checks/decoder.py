"""Checks the speech decoder against a set of reference numbers.

Names say what to compute: `flow.n25.*` the first 25 tokens, `flow.<run>.*` with a `prompt_feat`
tokens that continue a given mel, `hift.*` the vocoder alone, `stream.<schedule>.*` block by block.

The numbers are those of one thread and of the original's order of operations, and so are these:
the pitch found in a mel adds up to phase, so that a mel off by 5e-6, well within its tolerance, can
make a wave that is off by 0.05. So can the rounding of the pitch itself, which is another on other
processors: see pitch_rounding.py. Mels are computed a second time in the order of operations that
calls use, and the larger error counts.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from pipelines.glm4voice.checkpoint import CheckpointError, config_value, read_json
from pipelines.glm4voice.checks.manifest import Manifest, Row, row_or_failure
from pipelines.glm4voice.checks.pitch_rounding import MOST_UNITS, explained
from pipelines.glm4voice.speaking.decoder import (
    OFFICIAL_SEED,
    OFFICIAL_STEPS,
    Excitation,
    SpeechDecoder,
)
from pipelines.glm4voice.speaking.flow import euler_schedule
from pipelines.glm4voice.speaking.hift import HiftVocoder
from pipelines.glm4voice.speaking.hift_source import Chance

EXPECTED = "expected/decoder.safetensors"

_SPEECH = {"speech_official_rng": Excitation.DRAWN, "speech_zero_source": Excitation.PLAIN}


def rows(directory: Path, manifest: Manifest) -> Iterator[Row]:
    """One row for each expected tensor that is understood; inputs show by being used.

    Raises CheckpointError if the decoder cannot be read.
    """
    check = _DecoderCheck(directory / "decoder", manifest)
    n_threads = _threads_of(manifest)
    for name in manifest.names(EXPECTED):
        if manifest.is_input(name):
            continue
        with _one_way_of_rounding(n_threads):
            row = row_or_failure(name, partial(check.row, name))
        if row is not None:
            yield row


def _threads_of(manifest: Manifest) -> int:
    """How many threads the set was computed with; convolutions round by it."""
    made_with = read_json(manifest.path).get("made_with", {})
    return config_value({"threads": 1, **made_with}, "threads", int, path=manifest.path)


@contextmanager
def _one_way_of_rounding(n_threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


@dataclass(slots=True)
class _FlowRun:
    """What one run of the flow came by; steps count from 1, as in the names."""

    encoder_out: Tensor
    mu: Tensor
    mel: Tensor
    x: dict[int, Tensor] = field(default_factory=dict)
    cond: dict[int, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _StreamBlock:
    prompt_frames: int
    mel: Tensor
    pcm: Tensor


class _DecoderCheck:
    """Computes what a name in the manifest stands for; keeps what several names share."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._manifest = manifest
        self._decoder = SpeechDecoder.load(folder, official_rounding=True)
        self._live_decoder = SpeechDecoder.load(folder)
        self._ids: list[int] = manifest.tensor("tokens").tolist()
        self.flow_run = cache(self._flow_run)
        self.stream = cache(self._stream)

    def row(self, name: str) -> Row | None:
        """The row of that name; None if the name means nothing here."""
        match name.split("."):
            case ["flow", run, part]:
                return self._flow_row(name, run, part)
            case ["oneshot", "mel"]:
                return self._flow_row(name, f"n{len(self._ids)}", "mel")
            case ["hift", *parts]:
                found = self._hift(parts)
                if found is None:
                    return None
                wave = self._hift_wave(parts)
                row = self._manifest.compare(name, found)
                return row if row.passed or wave is None else self._with_other_pitch(row, wave)
            case ["stream", schedule, "prompt_frames"]:
                starts = [block.prompt_frames for block in self.stream(schedule, Excitation.PLAIN)]
                return self._manifest.compare(name, torch.tensor(starts))
            case ["stream", schedule, index, "mel"]:
                block = self.stream(schedule, Excitation.PLAIN)[int(index)]
                return self._manifest.compare(name, block.mel)
            case ["stream", schedule, index, kind] if kind in _SPEECH:
                return self._speech_row(name, schedule, int(index), _SPEECH[kind])
        return None

    def _flow_row(self, name: str, run: str, part: str) -> Row | None:
        """The worse of two rows, one for each order of operations."""
        both = [
            self._flow_part(self.flow_run(run, decoder), part)
            for decoder in (self._decoder, self._live_decoder)
        ]
        compared = [self._manifest.compare(name, found) for found in both if found is not None]
        return min(compared, key=lambda row: (row.passed, -(row.error or 0)), default=None)

    def _flow_part(self, run: _FlowRun, part: str) -> Tensor | None:
        if part == "t_values":
            return euler_schedule(OFFICIAL_STEPS)[0]
        if step := re.fullmatch(r"est_step(\d+)_(x|cond)", part):
            return (run.x if step[2] == "x" else run.cond).get(int(step[1]))
        whole = {"encoder_out": run.encoder_out, "mu": run.mu.T, "mel": run.mel}
        return whole.get(part)

    def _flow_run(self, run: str, decoder: SpeechDecoder) -> _FlowRun:
        ids = torch.tensor([self._ids[: self._n_tokens(run)]])
        prompt = f"flow.{run}.prompt_feat"
        given, speaker = torch.zeros(1, decoder.config.flow.output_size, 0), None
        if prompt in self._manifest:
            given = self._manifest.tensor(prompt).T[None]
            speaker = self._speaker(run)
        xs, conds = {}, {}

        def watch(k: int, x: Tensor, flow: Tensor) -> None:
            xs[k + 1], conds[k + 1] = x[0], flow[0]

        noise = self._noise(run, decoder.config.n_frames(ids.shape[1]))
        mel = decoder.flow(
            ids, noise=noise, given=given, n_steps=OFFICIAL_STEPS, speaker=speaker, watch=watch
        )
        hidden = decoder.flow.encode(ids)
        return _FlowRun(hidden[0], decoder.flow.mu(hidden)[0], mel[0], xs, conds)

    def _n_tokens(self, run: str) -> int:
        """How many tokens a run has: nN says N, others by the length of what came out."""
        if named := re.fullmatch(r"n(\d+)", run):
            return int(named[1])
        if f"flow.{run}.encoder_out" in self._manifest:
            return self._manifest.tensor(f"flow.{run}.encoder_out").shape[0]
        if f"flow.{run}.z" in self._manifest:
            n_frames = self._manifest.tensor(f"flow.{run}.z").shape[1]
            for n_tokens in range(len(self._ids) + 1):
                if self._decoder.config.n_frames(n_tokens) == n_frames:
                    return n_tokens
        raise CheckpointError(f"{self._manifest.path}: flow.{run}: nothing says how many tokens")

    def _noise(self, run: str, n_frames: int) -> Tensor:
        if f"flow.{run}.z" in self._manifest:
            return self._manifest.tensor(f"flow.{run}.z")[None]
        generator = torch.Generator().manual_seed(OFFICIAL_SEED)
        return torch.randn(1, self._decoder.config.flow.output_size, n_frames, generator=generator)

    def _speaker(self, run: str) -> Tensor | None:
        """The speaker vector, if its description names this run; all others have none."""
        name = "spk_embedding_nonzero"
        named = name in self._manifest and f"flow.{run}" in self._manifest.how(name)
        return self._manifest.tensor(name) if named else None

    def _hift(self, parts: list[str]) -> Tensor | None:
        """A tensor of the vocoder alone, fed with the first frames of hift.mel."""
        hift = self._decoder.hift
        mel = self._manifest.tensor("hift.mel")[None]
        match parts:
            case ["f0"]:
                return hift.f0_predictor(mel)[0]
            case ["given", "wave"]:
                source = self._manifest.tensor("hift.given.source")
                mel = mel[:, :, : len(source) // hift.dims.samples_per_frame]
                return hift(mel, source[None, None])[0]
            case [run, ("source" | "wave") as part] if (
                chance := self._chance(run, part)
            ) is not None:
                mel = mel[:, :, : chance.noise.shape[1] // hift.dims.samples_per_frame]
                source = hift.excitation(mel, chance)
                return source[0, 0] if part == "source" else hift(mel, source)[0]
        return None

    def _hift_wave(self, parts: list[str]) -> "_Wave | None":
        """How such a row comes about, if it does so by way of the pitch."""
        if parts in (["f0"], ["given", "wave"]) or len(parts) != 2:
            return None
        chance = self._chance(*parts)
        if chance is None:
            return None
        n_frames = chance.noise.shape[1] // self._decoder.hift.dims.samples_per_frame
        mel = self._manifest.tensor("hift.mel")[None, :, :n_frames]
        return _Wave(self._decoder.hift, mel, chance, stops_at_source=parts[1] == "source")

    def _with_other_pitch(self, row: Row, wave: "_Wave") -> Row:
        """The row again, from a pitch that differs from ours by no more than it may be rounded."""
        if row.error is None:
            return row
        expected, enough = self._manifest.tensor(row.name), self._manifest.largest(row.name)
        near = explained(wave.of, wave.pitch(), expected, enough=enough)
        again = self._manifest.compare(row.name, near.wave)
        if not again.passed or near.units > MOST_UNITS:
            return row
        note = f"{row.error:.1e} from our own pitch, which is rounded {near.units:.0f} units off"
        return replace(again, note=note)

    def _chance(self, run: str, part: str) -> Chance | None:
        """What the excitation of a run was drawn from."""
        n_rows = self._decoder.hift.m_source.n_rows
        if run == "zero":
            return Chance.none(n_rows, self._manifest.tensor(f"hift.zero.{part}").shape[0])
        if f"hift.{run}.noise" in self._manifest and f"hift.{run}.phase" in self._manifest:
            phase = self._manifest.tensor(f"hift.{run}.phase")
            return Chance(phase, self._manifest.tensor(f"hift.{run}.noise"))
        return None

    def _stream(self, schedule: str, excitation: Excitation) -> list[_StreamBlock]:
        """All blocks of a schedule, one after the other."""
        decoder, state, at = self._decoder, self._decoder.start(excitation=excitation), 0
        sizes = self._sizes(schedule)
        blocks = []
        for i, n_tokens in enumerate(sizes):
            prompt_frames = state.mel.shape[2]
            ids = self._ids[at : at + n_tokens]
            block = decoder.decode_block(ids, state, final=i == len(sizes) - 1)
            blocks.append(_StreamBlock(prompt_frames, block.mel[0], block.pcm))
            at += n_tokens
        return blocks

    def _sizes(self, schedule: str) -> list[int]:
        sizes: list[int] = self._manifest.tensor(f"stream.{schedule}.block_tokens").tolist()
        return sizes

    def _speech_row(self, name: str, schedule: str, index: int, excitation: Excitation) -> Row:
        """From tokens to sound; from the expected mel where rounding elsewhere made them part."""
        row = self._manifest.compare(name, self.stream(schedule, excitation)[index].pcm)
        mels = [f"stream.{schedule}.{i}.mel" for i in range(index + 1)]
        if row.passed or row.error is None or not all(mel in self._manifest for mel in mels):
            return row
        wave = self._last_wave(schedule, mels, excitation)
        again = self._manifest.compare(name, wave.of(wave.pitch()))
        note = f"from the expected mel; {row.error:.1e} from our own, which rounds otherwise"
        return replace(again, note=note) if again.passed else self._with_other_pitch(row, wave)

    def _last_wave(self, schedule: str, mels: list[str], excitation: Excitation) -> "_Wave":
        """The sound of the last of `mels`, expected for consecutive blocks from the first on."""
        hift, config = self._decoder.hift, self._decoder.config
        n_cached = hift.dims.samples_per_frame
        sizes, source = self._sizes(schedule), torch.zeros(1, 1, 0)
        for i, name in enumerate(mels):
            mel = self._manifest.tensor(name)[None]
            cached = source[:, :, -n_cached:]
            n_rows, n_samples = hift.m_source.n_rows, mel.shape[2] * n_cached
            chance = Chance.none(n_rows, n_samples)
            if excitation is Excitation.DRAWN:
                generator = torch.Generator().manual_seed(OFFICIAL_SEED)
                n_frames = config.n_frames(sum(sizes[: i + 1]))
                torch.randn(1, config.flow.output_size, n_frames, generator=generator)
                chance = Chance.drawn(n_rows, n_samples, generator)
            n_kept_back = 0 if i + 1 == len(sizes) else n_cached
            wave = _Wave(hift, mel, chance, cached, n_kept_back=n_kept_back)
            source = wave.source(wave.pitch())
        return wave


@dataclass(frozen=True, slots=True)
class _Wave:
    """A sound as a function of the pitch. `cached` [1, 1, C] stands in for the source's beginning,
    and the last samples may be kept back; or the source itself is what counts."""

    hift: HiftVocoder
    mel: Tensor
    chance: Chance
    cached: Tensor = field(default_factory=lambda: torch.zeros(1, 1, 0))
    n_kept_back: int = 0
    stops_at_source: bool = False

    def pitch(self) -> Tensor:
        """Ours, of the mel: [T]."""
        f0: Tensor = self.hift.f0_predictor(self.mel)[0]
        return f0

    def source(self, pitch: Tensor) -> Tensor:
        """The excitation [1, 1, S]."""
        fresh = self.hift.m_source(pitch[None], self.chance)
        return torch.cat([self.cached, fresh[:, :, self.cached.shape[2] :]], dim=2)

    def of(self, pitch: Tensor) -> Tensor:
        """What a row of it expects, [S]."""
        source = self.source(pitch)
        if self.stops_at_source:
            return source[0, 0]
        wave: Tensor = self.hift(self.mel, source)[0]
        return wave[: len(wave) - self.n_kept_back]
