"""The words and tokens of the embedded language model, written in the released file formats."""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# A sentence of 13 text tokens: any word of a slot may be followed by any word of the next. No word
# stands in two slots, so that a word tells its place.
SENTENCE_SLOTS: tuple[tuple[str, ...], ...] = (
    (" Yes", " Well", " Right", " Sure", " Okay", " Good", " Fine", " Now"),
    (",",),
    (" I", " we", " you", " they"),
    (" see", " find", " keep", " send", " check", " know", " need", " have", " like"),
    (" the", " your", " this", " that", " one"),
    (" new", " open", " small", " quick", " green", " next", " last", " main"),
    (" order", " number", " line", " plan", " card", " letter", " room", " ticket"),
    (" for", " with", " near", " from", " after", " before"),
    (" our", " my", " a", " each", " his", " her"),
    (" old", " short", " long", " good", " blue", " early", " late", " second"),
    (" house", " train", " friend", " phone", " table", " garden", " office", " doctor"),
    (" today", " again", " here", " soon", " first", " now", " then"),
    (".",),
)

# Merges for what prompts are made of, so that they do not fall apart into bytes.
_PROMPT_WORDS = (
    " will provide with speech text instruction Do it by step First think about and respond in"
    " interleaved manner followed audio tokens token are is be to of on at not the an caller call"
    " say speak answer please help support English name never always short sentences ask question"
)

CONTROL_NAMES: tuple[str, ...] = (
    *("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    *("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"),
    *("<|begin_of_audio|>", "<|end_of_audio|>"),
    *("<|begin_of_transcription|>", "<|end_of_transcription|>"),
    *(f"<|reserved_{n}|>" for n in range(8)),
)
EOS_NAMES = ("<|endoftext|>", "<|user|>", "<|observation|>")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Ids in the released order: text pieces by rank, control tokens, one token per speech code."""

    pieces: tuple[bytes, ...]
    n_audio: int

    @property
    def audio_offset(self) -> int:
        """The id of speech code 0."""
        return len(self.pieces) + len(CONTROL_NAMES)

    @property
    def n_tokens(self) -> int:
        """How many ids have a meaning."""
        return self.audio_offset + self.n_audio

    def piece(self, text: str) -> int:
        """The id of a text that is one piece. Raises ValueError if it is none."""
        return self.pieces.index(text.encode())

    def control(self, name: str) -> int:
        """The id of a control token."""
        return len(self.pieces) + CONTROL_NAMES.index(name)

    def audio(self, code: int) -> int:
        """The id of a speech code."""
        return self.audio_offset + code


def build_vocabulary(words: Iterable[str], *, n_audio: int) -> Vocabulary:
    """All bytes, and for each word the merges that build it from its front."""
    prefixes = {
        text[:end] for text in (word.encode() for word in words) for end in range(2, len(text) + 1)
    }
    merges = sorted(prefixes, key=lambda piece: (len(piece), piece))
    return Vocabulary((*(bytes([byte]) for byte in range(256)), *merges), n_audio)


def embedded_vocabulary(*, n_audio: int) -> Vocabulary:
    """The words of the sentences, and those of prompts."""
    spoken = [word for slot in SENTENCE_SLOTS for word in slot]
    written = [f" {word}" for word in _PROMPT_WORDS.split()]
    return build_vocabulary([*spoken, *written], n_audio=n_audio)


def write_text_tokenizer(folder: Path, vocabulary: Vocabulary) -> None:
    """Write tokenizer.model and tokenizer_config.json."""
    lines = [
        f"{base64.b64encode(piece).decode()} {rank}\n"
        for rank, piece in enumerate(vocabulary.pieces)
    ]
    (folder / "tokenizer.model").write_text("".join(lines))
    names = [*CONTROL_NAMES, *(f"<|audio_{code}|>" for code in range(vocabulary.n_audio))]
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    config = {
        "added_tokens_decoder": {
            str(len(vocabulary.pieces) + place): {"content": name, **flags, "special": True}
            for place, name in enumerate(names)
        },
        "additional_special_tokens": list(CONTROL_NAMES[:18]),
        "clean_up_tokenization_spaces": False,
        "do_lower_case": False,
        "eos_token": "<|endoftext|>",
        "model_max_length": 128000,
        "pad_token": "<|endoftext|>",
        "padding_side": "left",
        "remove_space": False,
        "tokenizer_class": "ChatGLM4Tokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
