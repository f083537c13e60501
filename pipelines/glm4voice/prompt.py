"""Builds prompts as token ids, in the exact form GLM-4-Voice was trained with.

Control tokens are looked up by name and put in as ids; every other text is encoded as data. So no
text of a caller, a persona or a tool can become a control token, and no id is ever turned into text
and back.
"""

import json
from collections.abc import Sequence
from enum import Enum

from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.realtime.model import Tool


class Instruction(Enum):
    """What kind of user turn the system text announces."""

    SPEECH = "speech"
    TEXT = "text"


# The official wording; the speech form ends in a blank, the text form does not.
_SYSTEM_TEXT = (
    "User will provide you with a {kind} instruction. Do it step by step. First, think about the "
    "instruction and respond in a interleaved manner, with 13 text token followed by 26 audio "
    "tokens."
)
_ANSWER_METADATA = "streaming_transcription\n"
# A text turn after a caller's turn: the reply to it is his words, without sound.
TRANSCRIPTION_REQUEST = "Write down what the caller has just said."
_TOOLS_TITLE = "\n\n# 可用工具"
_TOOLS_CLOSING = "\n在调用上述函数时，请使用 Json 格式表示调用的参数。"


def system_text(
    instructions: str = "", tools: Sequence[Tool] = (), *, kind: Instruction = Instruction.SPEECH
) -> str:
    """The official system text, then `instructions`, then `tools` in GLM-4's form.

    The official sentence always comes first: without it the model loses its 13/26 rhythm. Raises
    ValueError if a tool's parameters are not a JSON object.
    """
    text = _SYSTEM_TEXT.format(kind=kind.value)
    if instructions or kind is Instruction.SPEECH:
        text += " "
    text += instructions
    if tools:
        text += _TOOLS_TITLE + "".join(_tool_text(tool) for tool in tools)
    return text


def _tool_text(tool: Tool) -> str:
    try:
        parameters = json.loads(tool.parameters or "{}")
    except json.JSONDecodeError as exc:
        raise ValueError(f"parameters of tool {tool.name!r} are not JSON") from exc
    if not isinstance(parameters, dict):
        raise ValueError(f"parameters of tool {tool.name!r} are not a JSON object")
    described = {"name": tool.name, "description": tool.description, "parameters": parameters}
    listing = json.dumps(described, ensure_ascii=False, indent=4)
    return f"\n\n## {tool.name}\n\n{listing}{_TOOLS_CLOSING}"


class PromptBuilder:
    """The parts of a prompt as ids, for one tokenizer. A prompt is their concatenation."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        """Look the control tokens up. Raises CheckpointError if the tokenizer lacks one."""
        self._tokenizer = tokenizer
        self._system = tokenizer.special("<|system|>")
        self._user = tokenizer.special("<|user|>")
        self._assistant = tokenizer.special("<|assistant|>")
        self._observation = tokenizer.special("<|observation|>")
        self._begin_of_audio = tokenizer.special("<|begin_of_audio|>")
        self._end_of_audio = tokenizer.special("<|end_of_audio|>")
        self.start = [tokenizer.special("[gMASK]"), tokenizer.special("<sop>")]
        self.answer_header = [self._assistant, *tokenizer.encode(_ANSWER_METADATA)]

    def system_turn(self, text: str) -> list[int]:
        """`text` as a system turn."""
        return [self._system, *self._tokenizer.encode("\n" + text)]

    def text_turn(self, text: str) -> list[int]:
        """`text` as a user turn."""
        return [self._user, *self._tokenizer.encode("\n" + text)]

    def audio_turn(self, codes: Sequence[int]) -> list[int]:
        """Speech codes (0 .. n_audio - 1, 12.5 a second) as a user turn.

        Raises ValueError for a code the tokenizer has no audio token for.
        """
        return [*self.open_audio_turn(codes), self._end_of_audio]

    def open_audio_turn(self, codes: Sequence[int]) -> list[int]:
        """The beginning of an audio turn that is not over. Raises ValueError as `audio_turn`."""
        n_audio, offset = self._tokenizer.n_audio, self._tokenizer.audio_offset
        if any(not 0 <= code < n_audio for code in codes):
            raise ValueError(f"speech codes must be in 0..{n_audio - 1}")
        return [
            self._user,
            *self._tokenizer.encode("\n"),
            self._begin_of_audio,
            *(offset + code for code in codes),
        ]

    def answer(self, ids: Sequence[int]) -> list[int]:
        """Ids the model generated, as its turn in the history."""
        return [*self.answer_header, *ids]

    def answer_text(self, text: str) -> list[int]:
        """`text` as something the assistant has said."""
        return [*self.answer_header, *self._tokenizer.encode(text)]

    def tool_output(self, output: str) -> list[int]:
        """The result of a tool call as the turn that answers it."""
        return [self._observation, *self._tokenizer.encode("\n" + output)]
