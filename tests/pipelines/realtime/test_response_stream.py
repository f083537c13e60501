"""One reply as the events of one response."""

import numpy as np
from openai import BaseModel

from pipelines.realtime.history import History
from pipelines.realtime.model import Step, StopReason
from pipelines.realtime.response_stream import PIECE_MS, ResponseStream
from pipelines.realtime.session_config import SessionConfig
from tests.pipelines.realtime.tone_model import RATE, ToneModel, ToneReply, tone


class LastWords(ToneReply):
    """A reply whose first step brings three pieces of sound, and all that there will be."""

    def step(self) -> Step:
        self.sounds_no_more = True
        return Step(pcm=np.zeros(3 * RATE * PIECE_MS // 1000, dtype=np.float32), n_audio_tokens=8)


class SpeaksOn(ToneReply):
    """A reply of which the second step is said not to sound any more, and the third does."""

    def step(self) -> Step:
        self.n_steps += 1
        self.sounds_no_more = self.n_steps == 2
        if self.n_steps == 4:
            self.stop_reason = StopReason.END
        return Step(pcm=tone(self.n_steps), n_audio_tokens=1) if self.n_steps != 2 else Step()


def stream_of(reply: ToneReply, emitted: list[BaseModel]) -> ResponseStream:
    return ResponseStream(
        reply,
        item_id="item",
        config=SessionConfig(),
        metadata=None,
        model_rate=RATE,
        history=History(),
        emit=emitted.append,
        asked_s=0.0,
    )


def sounds(emitted: list[BaseModel]) -> list[str]:
    """What came of sound: pieces, and its ends."""
    kinds = [str(event.to_dict()["type"]) for event in emitted]
    return [kind.rpartition(".")[2] for kind in kinds if ".output_audio." in kind]


def test_a_reply_sounds_until_all_of_its_sound_is_sent() -> None:
    """Its last words are made at once and sent in pieces, for which its listener still waits.

    Then he is told that there are no more, though a tool call may still be written; once.
    """
    emitted: list[BaseModel] = []
    stream = stream_of(LastWords(ToneModel().open_session(), "item", n_words=1), emitted)
    while not stream.sounds_no_more:
        stream.step()
    while_it_is_written = sounds(emitted)
    stream.cancel("client_cancelled")

    # the last one is what the resampler held back
    assert while_it_is_written == ["delta", "delta", "delta", "delta", "done"]
    assert sounds(emitted) == while_it_is_written


def test_a_reply_that_speaks_on_after_all_is_told_to_end_again() -> None:
    """What looked like a tool call was speech: none of its sound is lost."""
    emitted: list[BaseModel] = []
    stream = stream_of(SpeaksOn(ToneModel().open_session(), "item", n_words=1), emitted)
    while not stream.is_done:
        stream.step()

    assert sounds(emitted) == ["delta", "delta", "done", "delta", "delta", "delta", "done"]
    assert stream.sound_ms >= 3 * 80
