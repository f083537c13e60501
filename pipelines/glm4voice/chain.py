"""The whole chain as a `SpeechModel`: speech tokenizer, language model and speech decoder."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pipelines.audio import Pcm
from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.hearing.config import SpeechTokenizerConfig
from pipelines.glm4voice.hearing.stream import UtteranceState
from pipelines.glm4voice.hearing.tokenizer import SpeechTokenizer
from pipelines.glm4voice.openings import Openings
from pipelines.glm4voice.prompt import PromptBuilder
from pipelines.glm4voice.recital import Sounds, sounds_of
from pipelines.glm4voice.session import GlmSession, Parts
from pipelines.glm4voice.speaking.decoder import SpeechDecoder
from pipelines.glm4voice.speaking.decoding import Decoding
from pipelines.glm4voice.speaking.stream import StreamBlock, StreamingDecoder
from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.thinking.device_watch import DeviceWatch
from pipelines.glm4voice.thinking.engine import Engine
from pipelines.glm4voice.thinking.engines import DTYPES, end_ids, load_engine
from pipelines.glm4voice.thinking.language_lock import LanguageLocks
from pipelines.glm4voice.thinking.quantize import NONE
from pipelines.glm4voice.thinking.token_mask import TokenMask

MAX_TURN_MS = 60_000


class GlmChain:
    """A `SpeechModel`: GLM-4-Voice, in this process. Holds weights only."""

    def __init__(
        self, parts: Parts, *, can_transcribe: bool = False, watch: DeviceWatch | None = None
    ) -> None:
        """`can_transcribe`: the language model was taught to, as `training/` does.

        `watch` is kept on the device that hears and makes sound; the engine has its own.
        """
        self._parts = parts
        self._watch = watch or DeviceWatch()
        self.can_transcribe = can_transcribe

    @property
    def parts(self) -> Parts:
        """The models it is made of."""
        return self._parts

    @property
    def input_sample_rate(self) -> int:
        """Hz of the sound it hears."""
        return self._parts.speech_tokenizer.sample_rate

    @property
    def output_sample_rate(self) -> int:
        """Hz of the sound it makes."""
        return self._parts.decoding.decoder.sample_rate

    @property
    def max_context_tokens(self) -> int:
        """How many tokens a conversation can hold."""
        return self._parts.engine.max_positions

    @property
    def is_alive(self) -> bool:
        """Whether new conversations can be served now."""
        return self._parts.engine.is_alive and not self._watch.has_failed

    @property
    def aside_s(self) -> float:
        """Seconds spent on decoding blocks so far."""
        return self._parts.decoding.busy_s

    @property
    def speaks_aside(self) -> bool:
        """Whether blocks are decoded on a thread of their own."""
        return self._parts.decoding.thread is not None

    def listen(self, wake: Callable[[], None]) -> None:
        """`wake` is called, from any thread, whenever a waiting reply may go on."""
        self._parts.engine.listen(wake)
        self._parts.decoding.listen(wake)

    def open_session(self) -> GlmSession:
        """Begin a conversation."""
        return GlmSession(self._parts)


class _WatchedUtterance(UtteranceState):
    """An utterance that notices the end of the device it is heard on."""

    def __init__(
        self, tokenizer: SpeechTokenizer, watch: DeviceWatch, *, max_samples: int | None
    ) -> None:
        super().__init__(tokenizer.encoder, tokenizer.mel, max_samples=max_samples)
        self._watch = watch

    def append(self, pcm: Pcm) -> None:
        with self._watch:
            super().append(pcm)

    def work(self) -> bool:
        with self._watch:
            return super().work()

    def finish(self) -> list[int]:
        with self._watch:
            return super().finish()


class _WatchedTokenizer(SpeechTokenizer):
    """A tokenizer whose utterances notice the end of its device."""

    def __init__(self, tokenizer: SpeechTokenizer, watch: DeviceWatch) -> None:
        super().__init__(tokenizer.config, tokenizer.encoder)
        self._watch = watch

    def begin(self, *, max_samples: int | None = None) -> UtteranceState:
        return _WatchedUtterance(self, self._watch, max_samples=max_samples)


class _WatchedDecoder(StreamingDecoder):
    """A decoder that notices the end of its device."""

    def __init__(self, decoder: SpeechDecoder, watch: DeviceWatch) -> None:
        super().__init__(decoder)
        self._watch = watch

    def advance(self, blocks: Sequence[StreamBlock]) -> list[Tensor]:
        with self._watch:
            return super().advance(blocks)

    def settle(self) -> None:
        with self._watch:
            super().settle()

    def speak(self, mels: Sequence[Tensor], blocks: Sequence[StreamBlock]) -> list[Tensor]:
        with self._watch:
            return super().speak(mels, blocks)


def load_chain(
    *,
    tokenizer_dir: Path,
    language_model_dir: Path,
    decoder_dir: Path,
    device: str = "cpu",
    dtype: str = "float32",
    max_turn_ms: int = MAX_TURN_MS,
    n_flow_steps: int = 10,
    n_threads: int | None = None,
    quantize: str = NONE,
    max_sessions: int = 32,
    vllm_url: str | None = None,
    vllm_adapter: str | None = None,
    max_context_tokens: int | None = None,
    can_transcribe: bool = False,
) -> GlmChain:
    """Load the three released folders, unchanged.

    `dtype` is the language model's; hearing and speaking stay float32, since half precision changes
    speech tokens. `max_turn_ms` bounds one caller's turn. `n_threads` limits torch in this process;
    None leaves it alone. `quantize`, `max_sessions`, `vllm_url`, `vllm_adapter` and
    `max_context_tokens` as in `load_engine`, `can_transcribe` as in `GlmChain`.

    Raises CheckpointError naming the file, key or shape, also where two folders do not fit each
    other, ValueError for an unknown dtype, CannotQuantize, ContextTooLong, NoSuchAdapter and
    EngineLost.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if n_threads is not None:
        torch.set_num_threads(n_threads)
    speech_tokenizer = SpeechTokenizer.load(tokenizer_dir, device, torch.float32)
    text_tokenizer = TextTokenizer.load(language_model_dir)
    decoder = SpeechDecoder.load(decoder_dir, device, torch.float32, n_steps=n_flow_steps)
    engine = load_engine(
        language_model_dir,
        device=device,
        dtype=dtype,
        quantize=quantize,
        max_sessions=max_sessions,
        vllm_url=vllm_url,
        vllm_adapter=vllm_adapter,
        max_context_tokens=max_context_tokens,
    )
    _check_vocabulary(text_tokenizer, engine, language_model_dir)
    _check_codes(
        (tokenizer_dir, speech_tokenizer.n_codes),
        (language_model_dir, text_tokenizer.n_audio),
        decoder.config.flow.vocab_size,
    )
    return assemble(
        speech_tokenizer=speech_tokenizer,
        text_tokenizer=text_tokenizer,
        engine=engine,
        decoder=decoder,
        end_ids=end_ids(language_model_dir),
        max_turn_ms=max_turn_ms,
        can_transcribe=can_transcribe,
    )


def assemble(
    *,
    speech_tokenizer: SpeechTokenizer,
    text_tokenizer: TextTokenizer,
    engine: Engine,
    decoder: SpeechDecoder,
    end_ids: Iterable[int],
    max_turn_ms: int = MAX_TURN_MS,
    can_transcribe: bool = False,
) -> GlmChain:
    """A chain of parts that fit each other. `end_ids` end a turn by the model's own config."""
    call_id = text_tokenizer.special("<|observation|>")
    stop_ids = frozenset({*end_ids, text_tokenizer.special("<|user|>"), call_id})
    texts = TokenMask([*range(text_tokenizer.n_ranks), *stop_ids], engine.vocab_size)
    watch = DeviceWatch()
    hearing = _WatchedTokenizer(speech_tokenizer, watch)
    streaming = _WatchedDecoder(decoder, watch)
    streaming.capture()
    return GlmChain(
        Parts(
            speech_tokenizer=hearing,
            text_tokenizer=text_tokenizer,
            engine=engine,
            decoding=Decoding(streaming),
            prompt=PromptBuilder(text_tokenizer),
            stop_ids=stop_ids,
            call_id=call_id,
            sounds=_sounds(text_tokenizer, engine),
            locks=LanguageLocks(text_tokenizer, engine.vocab_size),
            max_turn_samples=_turn_limit(speech_tokenizer.config, engine, max_turn_ms),
            texts=texts,
            openings=Openings(decoder.sample_rate),
        ),
        can_transcribe=can_transcribe,
        watch=watch,
    )


def _turn_limit(config: SpeechTokenizerConfig, engine: Engine, max_turn_ms: int) -> int:
    """Samples that are kept of a turn: one that grows by a piece more fills half the context."""
    n_fitting = engine.max_positions // 2 * config.samples_per_token - config.samples_per_piece
    return max(0, min(max_turn_ms * config.sample_rate // 1000, n_fitting))


def _sounds(tokenizer: TextTokenizer, engine: Engine) -> Sounds:
    """The masks for given words: a reply of them ends as any turn does, or not at all."""
    first = tokenizer.audio_offset
    ids = range(first, first + tokenizer.n_audio)
    return sounds_of(ids, [tokenizer.special("<|user|>")], engine.vocab_size)


def _check_vocabulary(tokenizer: TextTokenizer, engine: Engine, folder: Path) -> None:
    """The model has every id its tokenizer has. Raises CheckpointError."""
    n_ids = tokenizer.audio_offset + tokenizer.n_audio
    if n_ids > engine.vocab_size:
        raise CheckpointError(
            f"{folder}: the tokenizer has ids up to {n_ids - 1}, the model's vocabulary has"
            f" {engine.vocab_size}"
        )


def _check_codes(heard: tuple[Path, int], thought: tuple[Path, int], n_spoken: int) -> None:
    """Every speech code one model can make is one the next can take. Raises CheckpointError."""
    tokenizer_dir, n_heard = heard
    language_model_dir, n_audio = thought
    if n_heard > n_audio:
        raise CheckpointError(
            f"{tokenizer_dir} makes {n_heard} speech codes, {language_model_dir} has tokens for"
            f" {n_audio}"
        )
    if n_audio > n_spoken:
        raise CheckpointError(
            f"{language_model_dir} makes {n_audio} speech codes, the decoder speaks {n_spoken}"
        )
