"""The command runs its whole way at small sizes; its figures are not judged here."""

import json
from pathlib import Path
from typing import Any

import pytest

from bot.bench import calls_figures, calls_tables, is_real_time, main
from bot.bench_calls import PARTS, Load, Plan, simulate
from tests.pipelines.realtime.tone_model import ModelBroken, ToneModel, ToneReply


def kept(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return content


def test_hearing_and_interrupting_are_kept_beside_each_other(tmp_path: Path) -> None:
    """Parts measured in two runs share one file; a reply speaks after 23 tokens; nothing stays."""
    common = ["chain", "--sizes", "small", "--quick", "--out", str(tmp_path)]

    assert main([*common, "--parts", "tokenizer"]) == 0
    assert main([*common, "--parts", "cancel"]) == 0

    content = kept(tmp_path, "chain-cpu")
    figures = content["figures"]
    assert set(content["parts"]) == {"tokenizer", "cancel"}
    assert {"tokenise_10s_ratio", "tokenise_20s_ratio"} <= figures.keys()
    assert figures["first_sound_lm_tokens"] == 23
    assert figures["cancel_bytes_kept"] == 0
    assert content["parts"]["cancel"]["machine"]["n_threads"] == 1
    assert "| first_sound_lm_tokens | 23 |" in (tmp_path / "chain-cpu.md").read_text()


def test_calls_at_once_run_their_whole_way(tmp_path: Path) -> None:
    """What a GPU would be asked is done on the CPU; the parts of a first sound add up."""
    options = ["--calls-at-once", "--calls", "2", "--turns", "1", "--speech-ms", "200"]

    status = main(
        ["chain", "--sizes", "small", *options, "--reply-tokens", "26", "--out", str(tmp_path)]
    )
    assert status == 0

    content = kept(tmp_path, "chain-device")
    split, load, tokens, blocks = content["parts"]["calls"]["tables"]
    for _, *times_ms, _, _ in split["rows"]:
        by_part = dict(zip(PARTS, times_ms, strict=True))
        assert by_part.pop("total") == pytest.approx(sum(by_part.values()), abs=0.1)
        assert all(ms > 0 for ms in by_part.values())
    assert [row[1] for row in load["rows"]] == [2]
    assert len(tokens["rows"]) == 1
    assert len(blocks["rows"]) == 2


def refuses_two(reply: ToneReply) -> None:
    """As a model's `on_step`: it breaks where two sessions are open."""
    if sum(not session.is_closed for session in reply.session.model.sessions) > 1:
        raise ModelBroken


def test_a_refusal_ends_the_loads_and_keeps_those_before_it() -> None:
    """A call that breaks makes a load too high; what was measured until then is the result."""
    model, told = ToneModel(n_words=2), list[str]()
    model.on_step = refuses_two
    plan = Plan(n_turns=1, speech_ms=200, reply_tokens=8)

    played = simulate(model, (1, 2, 3), plan, report=told.append)

    assert [load.n_calls for load in played] == [1]
    assert told[:2] == ["1 calls", "2 calls"]
    assert told[2].startswith("2 calls are too many: ")
    assert len(told) == 3


def test_a_load_without_sound_is_not_real_time() -> None:
    """Its row says so, and figures of first sounds are those of loads that have any."""
    silent = Load(1, n_chunks=0)
    split = dict.fromkeys(PARTS, 1.0)
    heard = Load(2, first_sound_ms=[9.0], split_ms=[split], n_chunks=1, n_in_time=1, sound_s=1)

    first, simultaneous = calls_tables([silent, heard])

    assert not is_real_time(silent)
    assert calls_figures([silent, heard])["max_calls"] == 2
    assert [row[0] for row in first.rows] == [2]
    assert [(row[0], row[-1]) for row in simultaneous.rows] == [(1, "no"), (2, "yes")]


@pytest.mark.parametrize(
    ("speech_ms", "sentence"),
    [("20", r"calls: 1 at once are too many: \w+"), ("200", "calls: no reply has any sound")],
)
def test_what_gives_no_figure_ends_the_command(
    speech_ms: str, sentence: str, tmp_path: Path
) -> None:
    """Turns that the host refuses, replies too short for sound: a sentence, and nothing is kept."""
    options = ["--calls-at-once", "--calls", "1", "--turns", "1", "--speech-ms", speech_ms]

    with pytest.raises(SystemExit, match=sentence):
        main(["chain", "--sizes", "small", *options, "--reply-tokens", "1", "--out", str(tmp_path)])

    assert not list(tmp_path.iterdir())


def test_what_blocks_change_is_kept_with_pictures(tmp_path: Path) -> None:
    """Each part of `seams` leaves figures and a place on the page, with a picture."""
    common = ["seams", "--sizes", "small", "--quick", "--out", str(tmp_path)]

    assert main(common) == 0

    content, page = kept(tmp_path, "seams"), (tmp_path / "seams.md").read_text()
    assert content["benchmark"] == "seams"
    assert list(content["parts"]) == ["seams", "history", "steps"]
    assert {
        "streaming_bend_at_cut_p",
        "official_bend_at_cut_p",
        "mel_distance_history_10",
        "mel_distance_steps_5",
    } <= content["figures"].keys()
    for picture in ("places", "history", "steps"):
        assert f"(seams-{picture}.png)" in page
        assert (tmp_path / f"seams-{picture}.png").stat().st_size > 10_000


def test_a_late_chunk_counts() -> None:
    """The share in time is of all chunks; the split shown is the one of the median turn."""
    load = Load(2, n_chunks=4, n_in_time=3, split_ms=[{"total": float(n)} for n in (9, 1, 5)])

    assert load.share_in_time == 0.75
    assert load.median_split() == {"total": 5.0}


def test_what_cannot_be_measured_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong part or load, or nowhere to keep what is measured: nothing is loaded."""
    for command in (
        ["chain", "--parts", "ears"],
        ["chain", "--calls", "0"],
        ["chain", "--parts", "history"],
        ["seams", "--device", "cuda"],
        ["chain", "--turns", "0"],
        ["seams", "--out", __file__],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(command)
        assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "argument --turns: a number from 1 on is expected" in error
    assert f"--out: no folder can be made at {__file__}: File exists" in error
    assert "no such part: ears" in error
    assert "seams is measured on the CPU" in error
