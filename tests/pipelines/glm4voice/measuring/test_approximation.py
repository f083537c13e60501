"""What the benchmark of blocks says is what was measured; its figures are not judged here."""

from itertools import count

import pytest

from pipelines.glm4voice.measuring.approximation import (
    HISTORIES,
    QUICK,
    STEPS,
    measure_history,
    measure_steps,
)
from pipelines.glm4voice.measuring.random_chain import SMALL
from pipelines.glm4voice.measuring.released_decoder import random_decoder, voiced


def test_a_history_is_shown_with_what_it_costs() -> None:
    """Of blocks of 10, 30 and 30 tokens, a history of 20 has the flow compute 10 + 40 + 50."""
    reports: list[str] = []

    measured = measure_history(SMALL.decoder, QUICK, report=reports.append)

    (table,), (picture,) = measured.tables, measured.pictures
    assert [row[2] for row in table.rows] == [90, 100, 110, 120, 120]
    assert len(reports) == len(HISTORIES)
    distances = picture.panels[0].curves[0]
    assert distances.xs == list(HISTORIES)
    assert distances.ys == list(measured.figures.values())
    assert all(0 < y < 1 for y in distances.ys)


def test_fewer_steps_are_held_against_ten() -> None:
    """Ten steps are no distance from ten and take all of their time, here a second each."""
    ticks = count()

    measured = measure_steps(
        SMALL.decoder, QUICK, report=lambda text: None, clock=lambda: float(next(ticks))
    )

    assert [row[0] for row in measured.tables[0].rows] == list(STEPS)
    assert measured.figures["mel_distance_steps_10"] == 0
    assert all(measured.figures[f"mel_distance_steps_{n}"] > 0 for n in STEPS[:-1])
    assert measured.tables[0].rows[-1][2:] == (1.0, 2.0, 1.0, 1.0)


def test_a_random_decoder_is_given_a_voice() -> None:
    """Its pitch is above what counts as voiced, and its sound is neither silent nor offset."""
    decoder = voiced(random_decoder(SMALL.decoder, n_steps=2))

    block = decoder.decode_block(list(range(0, 500, 20)), decoder.start(), final=True)

    pitch_hz = decoder.hift.f0_predictor(block.mel)
    assert float(pitch_hz.min()) > SMALL.decoder.hift.nsf_voiced_threshold
    assert float(block.pcm.std()) == pytest.approx(0.15, abs=0.1)
    assert float(block.pcm.mean()) == pytest.approx(0, abs=0.02)
