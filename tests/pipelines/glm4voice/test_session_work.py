"""Working ahead changes nothing but when things are computed, whatever happens in a call."""

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.glm4voice.chain import GlmChain
from pipelines.glm4voice.session import GlmSession
from pipelines.realtime.model import Role, Sampling

GREEDY = Sampling(temperature=0.0, max_tokens=12)


@dataclass(frozen=True, slots=True)
class Act:
    """Something that happens, and how often the session may work ahead after it."""

    what: str
    number: int
    n_work: int


ACTS = st.builds(
    Act,
    st.sampled_from(
        [
            "speak",
            "speak",
            "speak",
            "clear",
            "commit",
            "text",
            "reply",
            "cut",
            "delete",
            "configure",
        ]
    ),
    st.integers(1, 9),
    st.integers(0, 4),
)


@settings(max_examples=15)
@given(acts=st.lists(ACTS, max_size=10))
def test_work_changes_nothing(embedded_chain: GlmChain, acts: list[Act]) -> None:
    """After any course of events the next reply has the prompt and the words it has without."""
    eager, lazy = embedded_chain.open_session(), embedded_chain.open_session()
    for session in (eager, lazy):
        for place, act in enumerate(acts):
            do(session, act, f"item {place}")
            for _ in range(act.n_work if session is eager else 0):
                session.work()
        session.commit_audio("last turn")

    one, other = eager.start_reply("last", GREEDY), lazy.start_reply("last", GREEDY)
    assert eager._context.ids == lazy._context.ids
    assert one.n_cached_tokens <= one.n_prompt_tokens == other.n_prompt_tokens
    while one.stop_reason is None:
        one.step()
    while other.stop_reason is None:
        other.step()
    assert eager._history.find("last").ids == lazy._history.find("last").ids


def do(session: GlmSession, act: Act, item_id: str) -> None:
    match act.what:
        case "speak":
            session.append_audio(speech(act.number))
        case "clear":
            session.clear_audio()
        case "commit":
            session.commit_audio(item_id)
        case "text":
            session.add_text(item_id, Role.USER, "Hello " * act.number)
        case "configure":
            session.configure(instructions="Be kind. " * (act.number % 3), tools=[])
        case "reply":
            reply = session.start_reply(item_id, GREEDY, instructions="Go on." * (act.number % 2))
            while reply.stop_reason is None:
                reply.step()
        case "cut":
            for item in session._history:
                if item.is_reply:
                    session.truncate(item.item_id, 80 * act.number)
        case "delete":
            for item in [*session._history][: act.number % 2]:
                session.delete(item.item_id)


def speech(number: int) -> NDArray[np.float32]:
    """1 to 9 s, the louder the longer, 16 kHz."""
    random = np.random.default_rng(number)
    steps = np.repeat(random.uniform(0.02, 0.4, size=20 * number), 800)
    pcm = np.sin(np.cumsum(steps)) + 0.01 * random.standard_normal(len(steps))
    return (0.01 * number * pcm).astype(np.float32)
