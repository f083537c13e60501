"""The history: cut to what was heard, to the token."""

import pytest

from pipelines.glm4voice.history import History

# 13 text ids, 26 audio ids (from 100 on), twice
IDS = [*range(13), *range(100, 126), *range(13, 26), *range(126, 152)]


def is_audio(token: int) -> bool:
    return token >= 100


@pytest.fixture
def history() -> History:
    history = History()
    history.add("question", [1, 2, 3])
    history.add_reply("answer").ids.extend(IDS)
    return history


@pytest.mark.parametrize(
    ("audio_end_ms", "n_kept", "n_ids"),
    [
        (-5, 0, 0),
        (0, 0, 0),
        (79, 0, 0),
        (80, 1, 14),
        (26 * 80, 26, 39),
        (26 * 80 + 79, 26, 39),
        (27 * 80, 27, 53),
        (52 * 80 - 1, 51, 77),
        (52 * 80, 52, 78),
        (99_999, 52, 78),
    ],
)
def test_a_reply_ends_with_the_last_token_that_was_heard(
    history: History, audio_end_ms: int, n_kept: int, n_ids: int
) -> None:
    """A token stays if its 80 ms were heard to the end; text after the last one goes with it."""
    item = history.find("answer")

    assert history.truncate("answer", audio_end_ms, is_audio) == n_kept
    assert item.ids == IDS[:n_ids]


def test_text_after_the_last_sound_stays_if_all_was_heard(history: History) -> None:
    """A reply heard to its end keeps the text the model put behind the last sound."""
    history.find("answer").ids.append(50)

    assert history.truncate("answer", 52 * 80, is_audio) == 52
    assert history.find("answer").ids == [*IDS, 50]


@pytest.mark.parametrize("audio_end_ms", [52 * 80, 99_999])
def test_text_that_a_cancelled_reply_did_not_come_to_speak_goes(
    history: History, audio_end_ms: int
) -> None:
    """All of its sound was heard, but not the words whose sound was still to be made."""
    item = history.find("answer")
    item.ids += range(26, 39)
    item.broke_off = True

    assert history.truncate("answer", audio_end_ms, is_audio) == 52
    assert item.ids == IDS


@pytest.mark.parametrize(
    ("audio_end_ms", "n_ids"), [(0, 0), (80, 14), (27 * 80, 53), (52 * 80, 78)]
)
def test_the_call_of_a_tool_stays(history: History, audio_end_ms: int, n_ids: int) -> None:
    """What was written behind the last sound of such a reply is kept, however often it is cut."""
    item = history.find("answer")
    item.ids += [50, 51]
    item.has_call = True

    for _ in range(2):
        assert history.truncate("answer", audio_end_ms, is_audio) == audio_end_ms // 80
        assert item.ids == [*IDS[:n_ids], 50, 51]


def test_what_cannot_be_cut_is_refused(history: History) -> None:
    """Only replies are cut, and only those there are."""
    with pytest.raises(KeyError):
        history.truncate("nobody", 0, is_audio)
    with pytest.raises(ValueError, match="not a reply"):
        history.truncate("question", 0, is_audio)


def test_an_id_is_given_once(history: History) -> None:
    """A second item of the same id is refused; after a deletion the id is free again."""
    with pytest.raises(ValueError, match="already"):
        history.add("answer", [])

    history.delete("answer")
    history.add("answer", [])

    assert [item.item_id for item in history] == ["question", "answer"]
