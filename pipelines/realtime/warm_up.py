"""What one reply costs a model, tried before there are callers."""

import threading
import time
from collections.abc import Callable
from typing import Final

from pipelines.realtime.admission import Work
from pipelines.realtime.model import Role, Sampling, SpeechModel, SpeechSession

_QUESTION: Final = "What can you do for me?"
_WORDS: Final = "I can look after your orders and your bills, and tell you when somebody will come."
_MAX_TOKENS: Final = 300
_WAIT_S: Final = 0.02


def warm_up(model: SpeechModel, *, clock: Callable[[], float] = time.monotonic) -> Work:
    """Have one reply made to get the device going, and another to see what it costs.

    Takes as long as both do. To be called on the thread that owns the model, before others use it.
    Raises what the model raises.
    """
    news = threading.Event()
    model.listen(news.set)
    session = model.open_session()
    try:
        session.add_text("question", Role.USER, _QUESTION)
        _reply(session, "first", news, clock)
        aside_s = model.aside_s
        busy_s, n_samples = _reply(session, "second", news, clock)
        busy_s += model.aside_s - aside_s
    finally:
        session.close()
    return Work(speaking_s=busy_s, sound_s=n_samples / model.output_sample_rate)


def _reply(
    session: SpeechSession, item_id: str, news: threading.Event, clock: Callable[[], float]
) -> tuple[float, int]:
    """Seconds at work, and samples made. Waiting is no work."""
    reply = session.start_reply(item_id, Sampling(max_tokens=_MAX_TOKENS), say=_WORDS)
    busy_s, n_samples = 0.0, 0
    while reply.stop_reason is None:
        if reply.is_waiting:
            news.wait(_WAIT_S)
            news.clear()
            continue
        began_s = clock()
        n_samples += len(reply.step().pcm)
        busy_s += clock() - began_s
    return busy_s, n_samples
