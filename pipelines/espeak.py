"""Speech from text by espeak-ng: callers, apologies and the training corpus use it.

The library comes with the package `espeakng-loader` and is driven through its C API. It keeps one
voice and one set of parameters per process, so one lock guards it. A sentence takes about one
millisecond per second of speech, which is too long for an event loop: call `speak` in a thread.

Errors:
    SpeechSynthesisError
        SynthesizerMissing      the library or its data is not usable on this machine
        UnknownVoice            espeak-ng has no such voice or variant
"""

import ctypes
import os
import tempfile
import threading
from functools import cache
from pathlib import Path

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

DEFAULT_RATE_WPM = 165
DEFAULT_PITCH = 50

_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_DONT_EXIT = 0x8000
_BUFFER_MS = 200
_POSITION_CHARACTER = 1
_CHARS_UTF8 = 1
_IPA = 2
_PARAMETER_RATE = 1
_PARAMETER_PITCH = 3
_LONGEST_DATA_PATH = 150  # the library keeps its path in a buffer of 160 bytes
_NAMES = {"en-gb": "en"}  # espeak-ng files British English under its bare name
_CREATING = threading.Lock()

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


class SpeechSynthesisError(Exception):
    """Base of this module's errors."""


class SynthesizerMissing(SpeechSynthesisError):
    """The library or its data is not usable on this machine."""


class UnknownVoice(SpeechSynthesisError):
    """espeak-ng has no such voice or variant."""


def speak(
    text: str,
    voice: str = "en-us",
    rate_wpm: int = DEFAULT_RATE_WPM,
    pitch: int = DEFAULT_PITCH,
) -> tuple[NDArray[np.float32], int]:
    """Speak `text` and return (pcm, sample_rate): float32 in [-1, 1], shape [T].

    `voice` is a language ("en-us", "en-gb", "cmn") with an optional variant ("en-us+f3");
    `rate_wpm` is 80 to 450 words a minute, `pitch` 0 to 99. Safe to call from any thread, blocks
    for about a millisecond per second of speech. Raises a `SpeechSynthesisError`.
    """
    if not 80 <= rate_wpm <= 450:
        raise SpeechSynthesisError(f"rate_wpm must be 80 to 450, not {rate_wpm}")
    if not 0 <= pitch <= 99:
        raise SpeechSynthesisError(f"pitch must be 0 to 99, not {pitch}")
    return _synthesizer().speak(text, voice, rate_wpm, pitch)


def phonemes(text: str, voice: str = "en-us") -> str:
    """How `voice` pronounces `text`: letters of the International Phonetic Alphabet, words apart.

    Mandarin tones are digits behind their syllables. Safe to call from any thread. Raises a
    `SpeechSynthesisError`.
    """
    return _synthesizer().phonemes(text, voice)


class _Synthesizer:
    """The process's one espeak-ng, with its voice, its parameters and the lock that guards them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._library = _load_library()
        self.sample_rate = self._initialize()
        self._pieces: list[bytes] = []
        # The reference must live as long as the library may call it.
        self._callback = _Callback(self._on_samples)
        self._library.espeak_SetSynthCallback(self._callback)

    def _initialize(self) -> int:
        data_path = _short_path(Path(espeakng_loader.get_data_path()))
        sample_rate = self._library.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS, _BUFFER_MS, os.fsencode(data_path), _INITIALIZE_DONT_EXIT
        )
        if sample_rate <= 0:
            raise SynthesizerMissing(f"espeak-ng cannot read its data in {data_path}")
        return int(sample_rate)

    def speak(
        self, text: str, voice: str, rate_wpm: int, pitch: int
    ) -> tuple[NDArray[np.float32], int]:
        with self._lock:
            self._set_voice(voice)
            self._library.espeak_SetParameter(_PARAMETER_RATE, rate_wpm, 0)
            self._library.espeak_SetParameter(_PARAMETER_PITCH, pitch, 0)
            pcm16 = self._synthesize(text)
        pcm = np.frombuffer(pcm16, dtype="<i2").astype(np.float32) / np.float32(32768)
        return pcm, self.sample_rate

    def phonemes(self, text: str, voice: str) -> str:
        encoded = ctypes.create_string_buffer(text.replace("\0", " ").encode())
        rest = ctypes.c_void_p(ctypes.addressof(encoded))
        clauses = []
        with self._lock:
            self._set_voice(voice)
            while rest.value:  # the library moves it to the next clause, and at last to nowhere
                found = self._library.espeak_TextToPhonemes(ctypes.byref(rest), _CHARS_UTF8, _IPA)
                clauses.append((found or b"").decode())
        return " ".join(clause for clause in clauses if clause)

    def _set_voice(self, voice: str) -> None:
        # The library ignores a variant it does not know, so it is looked up first.
        language, plus, variant = voice.partition("+")
        variants = Path(espeakng_loader.get_data_path()) / "voices" / "!v"
        known = not plus or ("/" not in variant and (variants / variant).is_file())
        name = _NAMES.get(language.lower(), language) + plus + variant
        if not known or self._library.espeak_SetVoiceByName(name.encode()) != 0:
            raise UnknownVoice(f'espeak-ng has no voice "{voice}"; try "en-us+f3", "en-gb", "cmn"')

    def _synthesize(self, text: str) -> bytes:
        encoded = text.replace("\0", " ").encode()
        self._pieces = []
        status = self._library.espeak_Synth(
            encoded, len(encoded) + 1, 0, _POSITION_CHARACTER, 0, _CHARS_UTF8, None, None
        )
        pieces, self._pieces = self._pieces, []
        if status != 0:
            raise SpeechSynthesisError(f"espeak-ng could not speak the text (status {status})")
        return b"".join(pieces)

    def _on_samples(self, samples: "ctypes._Pointer[ctypes.c_short]", n: int, _events: int) -> int:
        if samples and n > 0:
            self._pieces.append(ctypes.string_at(samples, 2 * n))
        return 0


@cache
def _create_synthesizer() -> _Synthesizer:
    return _Synthesizer()


def _synthesizer() -> _Synthesizer:
    with _CREATING:  # a cached function may run twice when two threads come first together
        return _create_synthesizer()


def _load_library() -> ctypes.CDLL:
    path = espeakng_loader.get_library_path()
    try:
        library = ctypes.CDLL(path)
    except OSError as exc:
        raise SynthesizerMissing(f"espeak-ng cannot be loaded from {path}: {exc}") from exc
    library.espeak_Initialize.argtypes = [
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_int,
    ]
    library.espeak_SetSynthCallback.argtypes = [_Callback]
    library.espeak_SetSynthCallback.restype = None
    library.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    library.espeak_TextToPhonemes.argtypes = [
        ctypes.POINTER(ctypes.c_void_p),
        ctypes.c_int,
        ctypes.c_int,
    ]
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
    library.espeak_Synth.argtypes = [
        ctypes.c_char_p,
        ctypes.c_size_t,
        ctypes.c_uint,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    return library


def _short_path(data_path: Path) -> Path:
    """Return a path of the data that fits the library's buffer: itself, or a link to it."""
    if len(os.fsencode(data_path)) <= _LONGEST_DATA_PATH:
        return data_path
    link = Path(tempfile.mkdtemp(prefix="espeak-")) / "espeak-ng-data"
    link.symlink_to(data_path, target_is_directory=True)
    return link
