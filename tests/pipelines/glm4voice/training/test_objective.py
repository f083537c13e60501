"""A batch: rows after one prefix, of which only what is marked is learned."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.training.language_model_folder import fresh_model
from pipelines.glm4voice.training.listener import Listener
from pipelines.glm4voice.training.objective import SharedPrefix, batch_of, hidden_states, losses
from pipelines.glm4voice.training.turns import Learn, Row, TurnWriter


@pytest.fixture
def rows(tiny_tokenizer: TextTokenizer) -> list[Row]:
    writer = TurnWriter(tiny_tokenizer)
    return [
        writer.row([writer.heard([1, 2, 3]), writer.spoken("Your order.", [5, 6])]),
        writer.row([writer.typed("How much?"), writer.spoken("Your bill is due.", [7] * 9)]),
    ]


def test_a_shared_prefix_is_the_same_as_one_in_each_row(tiny_folder: Path, rows: list[Row]) -> None:
    """What the model makes of a row, and its gradients, do not depend on how it was computed: with
    the prefix in it, or after one that several batches share."""
    model = fresh_model(tiny_folder, seed=1).double()
    start = [3, 1, 4, 1, 5]
    whole = [Row(np.array([*start, *row.ids], dtype=np.int32), np.zeros(0)) for row in rows]

    prefix = SharedPrefix(model, start)
    shared = [hidden_states(model, prefix, batch_of([row]))[0] for row in rows]
    both, _ = hidden_states(model, prefix, batch_of(rows))
    summed = sum(one[0, :5].sum() for one in shared) + both[:, :5].sum()
    (summed / 2).backward()
    prefix.backward()
    shared_gradient = model.model.embed_tokens.weight.grad
    alone = [model.model(torch.tensor(row.ids[None, :-1])).last_hidden_state for row in whole]
    summed = sum(one[0, len(start) : len(start) + 5].sum() for one in alone)
    (alone_gradient,) = torch.autograd.grad(summed, model.model.embed_tokens.weight)

    for place, row in enumerate(rows):
        for made in (shared[place][0], both[place, : len(row) - 1]):
            torch.testing.assert_close(made, alone[place][0, len(start) :], rtol=1e-9, atol=1e-9)
    # norms are computed in float32
    torch.testing.assert_close(shared_gradient, alone_gradient, rtol=1e-3, atol=1e-4)


def test_each_kind_has_its_own_loss(tiny_folder: Path, rows: list[Row]) -> None:
    """The text copies bring no loss of sound, the sound copies none of text, both what they do."""
    model = fresh_model(tiny_folder, seed=1)

    both = losses(model, SharedPrefix(model, []), batch_of(rows))
    text = losses(model, SharedPrefix(model, []), batch_of([row.only(Learn.TEXT) for row in rows]))
    sound = losses(
        model, SharedPrefix(model, []), batch_of([row.only(Learn.SOUND) for row in rows])
    )

    assert (both.keys(), text.keys(), sound.keys()) == ({"text", "sound"}, {"text"}, {"sound"})
    torch.testing.assert_close(both["text"], text["text"])
    torch.testing.assert_close(both["sound"], sound["sound"])


def test_damaged_ids_are_read_but_not_learned(tiny_folder: Path, rows: list[Row]) -> None:
    """With other ids to read, the ids to learn are those of the row."""
    damaged = [Row(np.zeros_like(row.ids), row.marks) for row in rows]

    batch = batch_of(rows, damaged)

    assert not batch.read.any()
    assert batch.wanted[0, : len(rows[0]) - 1].tolist() == rows[0].ids[1:].tolist()


def test_the_first_sounds_of_an_answer_count_more(tiny_folder: Path, rows: list[Row]) -> None:
    """A weight of the opening draws the mean of a row's sounds to that of its first 26."""
    model = fresh_model(tiny_folder, seed=1)
    writer = TurnWriter(TextTokenizer.load(tiny_folder))
    row = writer.row([writer.heard([1, 2]), writer.spoken("Yes.", [3] * 26 + [4, 5, 6] * 10)])
    row = row.only(Learn.SOUND)
    opening = Row(row.ids, np.where(np.cumsum(row.marks > 0) <= 26, row.marks, 0))
    rest = Row(row.ids, np.where(np.cumsum(row.marks > 0) <= 26, 0, row.marks))
    n_rest = int((rest.marks > 0).sum())

    first = losses(model, SharedPrefix(model, []), batch_of([opening]))["sound"]
    later = losses(model, SharedPrefix(model, []), batch_of([Row(rest.ids, rest.marks)]))["sound"]
    weighted = losses(model, SharedPrefix(model, []), batch_of([row]), opening_weight=4.0)["sound"]

    torch.testing.assert_close(weighted, (4 * 26 * first + n_rest * later) / (4 * 26 + n_rest))


def test_a_listener_reads_below_the_last_layer(tiny_folder: Path) -> None:
    """What callers say is to be found there, so the last layer has nothing to learn from it."""
    model = fresh_model(tiny_folder, seed=1)
    tokenizer = TextTokenizer.load(tiny_folder)
    writer = TurnWriter(tokenizer)
    row = writer.row([writer.heard([1] * 9, "Hello?"), writer.written("Yes.")]).only(Learn.TEXT)
    listener = Listener(model.config.hidden_size, tokenizer.n_ranks)

    found = losses(model, SharedPrefix(model, [3, 1]), batch_of([row]), listener=listener)
    found["heard"].backward()

    first, last = model.model.layers[0], model.model.layers[-1]
    assert found.keys() == {"text", "heard"}
    assert all(one.grad is not None for one in first.parameters())
    assert all(one.grad is None for one in last.parameters())
