"""What the tokenizer learns from: callers over drawn telephone lines, and answers as they are."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import signal
from torch import Tensor
from torch.nn import functional

from pipelines.audio import MODEL_INPUT_RATE, MODEL_OUTPUT_RATE, Pcm
from pipelines.glm4voice.hearing.config import CONV_STRIDE, SpeechTokenizerConfig
from pipelines.glm4voice.hearing.mel import LogMel
from pipelines.glm4voice.training.channel import telephone
from pipelines.glm4voice.training.ctc import Targets
from pipelines.glm4voice.training.letters import Alphabet, phones, plain
from pipelines.glm4voice.training.recogniser import N_SOUND
from pipelines.glm4voice.training.speakers import as_another
from pipelines.glm4voice.training.style import STYLE_NAMED
from pipelines.glm4voice.training.utterances import Corpus, Utterance
from pipelines.pitch import track_pitch

_LONGEST_SILENCE_S = 0.5  # before and after an utterance
_JOINED = 0.15  # of the callers say two sentences: calls have pieces longer than a block
_SORTED_FROM = 8  # batches' worth of utterances from which one of like lengths is cut
_MASKED_BANDS, _MASKED_FRAMES = 16, 16  # widest masks
_N_MASKS = 2
_PITCH_HZ, _PITCH_SPREAD = 110.0, 0.25  # of the target: log(pitch / 110 Hz) / 0.25


class _Lasts(Protocol):
    @property
    def duration_ms(self) -> float: ...


Lasting = TypeVar("Lasting", bound=_Lasts)


@dataclass(frozen=True, slots=True)
class Alphabets:
    """What is written: the letters of texts and those of sounds."""

    letters: Alphabet
    phones: Alphabet

    @classmethod
    def of(cls, utterances: Iterable[Utterance]) -> Self:
        """Those of all that is said in them."""
        said = list(utterances)
        return cls(
            letters=Alphabet.of(plain(u.text) for u in said),
            phones=Alphabet.of(phones(u.text, u.language) for u in said),
        )

    def write(self, lines: Sequence[Sequence[Utterance]]) -> tuple[Targets, Targets]:
        """Letters and phones of rows, each of which says some utterances."""
        texts = [" ".join(plain(u.text) for u in line) for line in lines]
        sounds = ["".join(phones(u.text, u.language) for u in line) for line in lines]
        return (
            Targets.of([self.letters.ids(text) for text in texts]),
            Targets.of([self.phones.ids(sound) for sound in sounds]),
        )


@dataclass(frozen=True, slots=True)
class HearingBatch:
    """B rows, the shorter ones padded, of N tokens at most.

    mel [B, n_mels, 2 F], real [B, F]; `sound` [B, N, N_SOUND] and `pitch` [B, N] are NaN where
    there is none; callers have no rows of them. `is_excited` [B] tells which answers are.
    """

    mel: Tensor
    real: Tensor
    letters: Targets
    phones: Targets
    n_tokens: Tensor  # [B]
    sound: Tensor
    pitch: Tensor
    is_excited: Tensor


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one caller says: a sentence, or two with a pause between them."""

    utterances: tuple[Utterance, ...]

    @property
    def duration_ms(self) -> float:
        return sum(u.duration_ms for u in self.utterances)


class HearingBatches:
    """Draws batches of about so many seconds, of callers or of answers, from the generator given.

    The two are not mixed: they differ in length, and padding costs as much as speech.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: SpeechTokenizerConfig,
        alphabets: Alphabets,
        *,
        seconds: float,
        answer_share: float,
        strength: float,
        spread: float,
    ) -> None:
        """`strength` is of the lines, `spread` of the speakers."""
        self._corpus, self._config, self._alphabets = corpus, config, alphabets
        self._seconds, self._answer_share = seconds, answer_share
        self._strength, self._spread = strength, spread
        self._callers = [u for u in corpus.callers if not u.is_held]
        self._log_mel = log_mel(config)
        self._pitches: dict[int, NDArray[np.float32]] = {}

    def draw(self, rng: np.random.Generator, hardness: float = 1.0) -> HearingBatch:
        """One batch, of answers with the probability of their share.

        `hardness` from 0 to 1 scales noise and masks: letters are first found in clean speech.
        """
        if rng.random() < self._answer_share:
            answers = self._corpus.answers
            return self._answers(
                _of_like_length(lambda: answers[rng.integers(len(answers))], self._seconds, rng)
            )
        turns = _of_like_length(lambda: self._turn(rng), self._seconds, rng)
        return self._turns(turns, rng, hardness)

    def _turn(self, rng: np.random.Generator) -> _Turn:
        n_utterances = 2 if rng.random() < _JOINED else 1
        places = rng.integers(len(self._callers), size=n_utterances)
        return _Turn(tuple(self._callers[place] for place in places))

    def _turns(
        self, turns: Sequence[_Turn], rng: np.random.Generator, hardness: float
    ) -> HearingBatch:
        strength = self._strength * hardness
        pcms = [telephone(self._spoken(turn, rng), rng, strength) for turn in turns]
        mels = [features(pcm, self._config, self._log_mel) for pcm in pcms]
        for mel in mels:
            _mask(mel, rng, hardness)
        return self._batch(pcms, mels, [turn.utterances for turn in turns], [], [])

    def _answers(self, answers: Sequence[Utterance]) -> HearingBatch:
        pcms = [answer_at_16k(self._corpus, u) for u in answers]
        mels = [features(pcm, self._config, self._log_mel) for pcm in pcms]
        sounds = [_sound_target(mel, self._n_tokens(mel)) for mel in mels]
        heard = zip(answers, pcms, mels, strict=True)
        pitches = [self._pitch(u, pcm, self._n_tokens(mel)) for u, pcm, mel in heard]
        return self._batch(pcms, mels, [(u,) for u in answers], sounds, pitches)

    def _spoken(self, turn: _Turn, rng: np.random.Generator) -> Pcm:
        parts = [_silence(rng)]
        for utterance in turn.utterances:
            pcm = as_another(self._corpus.pcm(utterance), rng, self._spread)
            parts += [pcm, _silence(rng)]
        return np.concatenate(parts)

    def _n_tokens(self, mel: Tensor) -> int:
        return mel.shape[1] // (CONV_STRIDE * self._config.pool)

    def _batch(
        self,
        pcms: Sequence[Pcm],
        mels: Sequence[Tensor],
        lines: Sequence[Sequence[Utterance]],
        sounds: Sequence[Tensor],
        pitches: Sequence[Tensor],
    ) -> HearingBatch:
        letters, sounded = self._alphabets.write(lines)
        mel, real = padded(mels, [len(pcm) for pcm in pcms], self._config)
        n_tokens = [self._n_tokens(mel) for mel in mels]
        return HearingBatch(
            mel=mel,
            real=real,
            letters=letters,
            phones=sounded,
            n_tokens=torch.tensor(n_tokens),
            sound=_stacked(sounds, max(n_tokens), (N_SOUND,)),
            pitch=_stacked(pitches, max(n_tokens), ()),
            is_excited=torch.tensor([any(map(is_excited, line)) for line in lines]),
        )

    def _pitch(self, utterance: Utterance, pcm: Pcm, n_tokens: int) -> Tensor:
        """The target [n_tokens] of an answer, kept: tracking takes longer than a step should."""
        if utterance.id not in self._pitches:
            self._pitches[utterance.id] = _token_pitch(pcm, n_tokens, self._config)
        return torch.from_numpy(self._pitches[utterance.id])


def is_excited(utterance: Utterance) -> bool:
    """Whether it is an answer in an excited voice, at whatever rate."""
    return STYLE_NAMED[utterance.style].emotion == "excited"


def log_mel(config: SpeechTokenizerConfig) -> LogMel:
    """The features of a tokenizer of this configuration."""
    return LogMel(
        sample_rate=config.sample_rate, n_fft=config.n_fft, hop=config.hop, n_mels=config.n_mels
    )


def answer_at_16k(corpus: Corpus, utterance: Utterance) -> Pcm:
    """An answer as the tokenizer hears it, float32 [T] at 16 kHz."""
    pcm = signal.resample_poly(corpus.pcm(utterance), MODEL_INPUT_RATE, MODEL_OUTPUT_RATE)
    heard: Pcm = pcm.astype(np.float32)
    return heard


def features(pcm: Pcm, config: SpeechTokenizerConfig, mel: LogMel) -> Tensor:
    """Mel features [n_mels, 2 F] of pcm [T], filled up to whole tokens as in a call."""
    missing = -len(pcm) % config.samples_per_token
    return mel.piece(functional.pad(torch.from_numpy(np.ascontiguousarray(pcm)), (0, missing)))


def padded(
    mels: Sequence[Tensor], n_samples: Sequence[int], config: SpeechTokenizerConfig
) -> tuple[Tensor, Tensor]:
    """Features of unequal lengths as [B, n_mels, 2 F], and which frames are real, [B, F]."""
    longest = max(mel.shape[1] for mel in mels)
    starts = torch.arange(longest // CONV_STRIDE) * (config.hop * CONV_STRIDE)
    real = torch.stack([starts < n for n in n_samples])
    return torch.stack([functional.pad(mel, (0, longest - mel.shape[1])) for mel in mels]), real


def _of_like_length(
    draw: Callable[[], Lasting], seconds: float, rng: np.random.Generator
) -> list[Lasting]:
    """Drawn things of `seconds` in all, neighbours in length, so that little is padding."""
    drawn = sorted(_up_to(seconds * _SORTED_FROM, draw), key=lambda one: one.duration_ms)
    start = int(rng.integers(len(drawn)))
    rest = iter(drawn[start:] + drawn[:start][::-1])
    return _up_to(seconds, lambda: next(rest))


def _up_to(seconds: float, draw: Callable[[], Lasting]) -> list[Lasting]:
    """What `draw` gives until it lasts `seconds`."""
    found: list[Lasting] = []
    left_ms = 1000 * seconds
    while left_ms > 0:
        found.append(draw())
        left_ms -= found[-1].duration_ms
    return found


def _silence(rng: np.random.Generator) -> Pcm:
    return np.zeros(int(rng.uniform(0, _LONGEST_SILENCE_S) * MODEL_INPUT_RATE), np.float32)


def _mask(mel: Tensor, rng: np.random.Generator, hardness: float) -> None:
    """Blank out bands and stretches of time (SpecAugment: Park et al. 2019), in place."""
    n_mels, n_frames = mel.shape
    floor = mel.min()
    for _ in range(_N_MASKS):
        n_bands = int(rng.integers(int(_MASKED_BANDS * hardness) + 1))
        band = int(rng.integers(n_mels - n_bands))
        mel[band : band + n_bands] = floor
        n = int(rng.integers(min(int(_MASKED_FRAMES * hardness), n_frames // 4) + 1))
        start = int(rng.integers(n_frames - n))
        mel[:, start : start + n] = floor


def _sound_target(mel: Tensor, n_tokens: int) -> Tensor:
    """The spectrum of each token, [n_tokens, N_SOUND]: two halves of 32 bands each."""
    halves = mel.unflatten(1, (2 * n_tokens, -1)).mean(dim=2)
    bands = halves.unflatten(0, (N_SOUND // 2, -1)).mean(dim=1)
    return bands.unflatten(1, (n_tokens, 2)).permute(1, 2, 0).flatten(1)


def _token_pitch(pcm: Pcm, n_tokens: int, config: SpeechTokenizerConfig) -> NDArray[np.float32]:
    """Mean pitch of the voiced quarters of each token as the target, NaN where all are unvoiced."""
    hop = config.samples_per_token / 4
    hz = track_pitch(pcm, sample_rate=config.sample_rate, hop=hop, n_frames=4 * n_tokens)
    quarters = hz.reshape(n_tokens, 4)
    n_voiced = (quarters > 0).sum(axis=1)
    mean = quarters.sum(axis=1) / np.maximum(n_voiced, 1)
    target = np.log(np.maximum(mean, 1.0) / _PITCH_HZ) / _PITCH_SPREAD
    return np.where(n_voiced > 0, target, np.nan).astype(np.float32)


def _stacked(rows: Sequence[Tensor], n_tokens: int, shape: tuple[int, ...]) -> Tensor:
    """Rows of unequal lengths as [A, n_tokens, ...], NaN behind their ends."""
    stack = torch.full((len(rows), n_tokens, *shape), torch.nan)
    for i, row in enumerate(rows):
        stack[i, : len(row)] = row
    return stack
