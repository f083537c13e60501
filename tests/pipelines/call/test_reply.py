"""Replies as the service follows them."""

from pipelines.audio import MODEL_OUTPUT_RATE, PCM16_BYTES
from pipelines.call.reply import Replies, Reply, Request

SECOND = MODEL_OUTPUT_RATE * PCM16_BYTES


def test_sound_in_hand_shrinks_as_it_plays() -> None:
    """Three seconds that came at once are two seconds ahead of the caller one second later."""
    reply = Reply(number=1, request=Request(), first_sound_s=10.0, made_bytes=3 * SECOND)

    assert [reply.in_hand_ms(now_s) for now_s in (10.0, 11.0, 13.0, 20.0)] == [3000, 2000, 0, 0]


def test_nothing_is_in_hand_before_the_first_sound() -> None:
    """A reply that has made nothing has nothing ahead."""
    assert Reply(number=1, request=Request()).in_hand_ms(5.0) == 0


def test_a_reply_without_sound_is_not_waited_for() -> None:
    """There is something to hear while a reply is made, and of what was made, until it is heard."""
    replies = Replies(lambda event: None)
    found = []
    for made_bytes in (0, SECOND):
        reply = replies.ask(Request())
        assert reply is not None
        reply.made_bytes = made_bytes
        found.append(replies.any_to_hear)
        replies.close(cancelled=False)
        found.append(replies.any_to_hear)
    replies.heard()

    assert [*found, replies.any_to_hear] == [True, False, True, True, False]


def test_a_reply_that_is_heard_while_its_call_is_written_is_not_waited_for_afterwards() -> None:
    """Nobody will tell again that it was heard; while it is made it can be stopped."""
    replies = Replies(lambda event: None)
    reply = replies.ask(Request())
    assert reply is not None
    reply.made_bytes = SECOND
    replies.heard()
    while_made = replies.any_unheard, replies.any_to_hear
    replies.close(cancelled=False)

    assert while_made == (True, True)
    assert (replies.any_unheard, replies.any_to_hear) == (False, False)
