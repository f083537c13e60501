"""What a conversation takes of the model's context, counted as things come and go."""

from openai.types.realtime import (
    RealtimeConversationItemFunctionCallOutput,
    RealtimeConversationItemSystemMessage,
)

from pipelines.realtime.context_budget import ContextBudget
from pipelines.realtime.history import (
    History,
    Item,
    assistant_message,
    function_call,
    user_speech,
)

LIMIT = 1000


def speech(n_tokens: int) -> Item:
    return Item(wire=user_speech("item"), n_audio_tokens=n_tokens)


def rule(n_tokens: int) -> Item:
    wire = RealtimeConversationItemSystemMessage(type="message", role="system", content=[])
    return Item(wire=wire, n_text_tokens=n_tokens)


def call(*items: Item) -> tuple[ContextBudget, History]:
    """A conversation of these items, "0", "1" and so on."""
    budget, history = ContextBudget(LIMIT), History()
    for place, item in enumerate(items):
        budget.added(item)
        history.add(str(place), item)
    return budget, history


def test_a_reply_says_how_long_the_conversation_is() -> None:
    """What was guessed before is replaced by what was read and made."""
    budget, _ = call(speech(100))
    budget.configured(200)
    budget.asked(50, "")
    budget.begun()
    budget.replied(300)

    assert budget.n_tokens == 300


def test_what_comes_and_goes_while_a_reply_is_made_counts() -> None:
    """Its prompt was fixed before: that counts what has gone, and not what has come."""
    budget, _ = call(old := speech(100))
    budget.asked(50, "")
    budget.begun()
    budget.added(new := speech(70))
    budget.removed(old)
    budget.cut(10)
    budget.replied(300)

    assert budget.n_tokens == 300 + new.n_tokens - old.n_tokens - 10


def test_what_went_to_make_room_for_a_reply_is_not_in_its_prompt() -> None:
    """It is not taken off once more when the reply is made."""
    budget, _ = call(old := speech(100), speech(70))
    budget.asked(50, "")
    budget.removed(old)
    budget.begun()
    budget.replied(120)

    assert budget.n_tokens == 120


def test_what_came_before_a_reply_is_counted_once() -> None:
    """The items of its prompt are not added to the prompt."""
    budget, _ = call()
    budget.asked(50, "")
    budget.begun()
    budget.added(speech(70))
    budget.replied(100)
    n_before = budget.n_tokens
    budget.asked(50, "")
    budget.begun()
    budget.replied(n_before + 20)

    assert budget.n_tokens == n_before + 20


def test_another_system_text_takes_the_place_of_the_first() -> None:
    """Its letters count, those of the one before do not any more."""
    budget, _ = call()
    budget.configured(200)
    budget.configured(100)

    assert budget.n_tokens == 50


def test_items_go_from_the_oldest_on_down_to_half() -> None:
    """When a reply does not fit; rules and the newest item stay."""
    budget, history = call(rule(50), speech(200), speech(200), speech(200), speech(200))
    budget.asked(50, "")
    fits = budget.excess_for_reply(history)
    budget.asked(50, 400 * "a")

    assert fits == []
    assert budget.excess_for_reply(history) == ["1", "2"]


def test_a_call_goes_with_its_words_and_its_result() -> None:
    """The model has the call within the words: a result without it would answer nothing."""
    words = Item(wire=assistant_message("0"), is_spoken_reply=True, n_audio_tokens=300)
    made = Item(wire=function_call("1", "call", "look_up"), in_model=False)
    result = RealtimeConversationItemFunctionCallOutput(
        type="function_call_output", call_id="call", output="sunny"
    )
    _, history = call(words, made, Item(wire=result, n_text_tokens=10), speech(100), speech(100))

    assert history.oldest(200) == ["0", "1", "2"]


def test_the_newest_call_stays_with_its_words() -> None:
    """Right after a reply that calls a tool: its result is still to come, and wants the call."""
    words = Item(wire=assistant_message("1"), is_spoken_reply=True, n_audio_tokens=300)
    made = Item(wire=function_call("2", "call", "look_up"), in_model=False)
    _, history = call(speech(30), words, made)

    assert history.oldest(200) == ["0"]


def test_a_reply_is_given_a_quarter_at_most_and_a_turn_an_eighth() -> None:
    """So much is kept free of what may come, however long a reply is allowed to be."""
    budget, history = call(speech(300), speech(300))
    budget.asked(100_000, "")

    assert budget.excess_for_reply(history) == []
    assert budget.excess_for_turn(history) == ["0"]


def test_many_short_items_are_counted() -> None:
    """Even one of no letters takes room: whose it is stands around it."""
    budget, history = call(*(speech(0) for _ in range(200)))
    budget.asked(50, "")

    assert len(budget.excess_for_reply(history)) > 100
