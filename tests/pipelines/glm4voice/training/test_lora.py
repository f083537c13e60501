"""Tuning with adapters: a released folder in, a PEFT folder and a merged one out."""

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from pipelines.glm4voice.chain import load_chain
from pipelines.glm4voice.checkpoint import read_safetensors
from pipelines.glm4voice.embedded import write_embedded_checkpoint
from pipelines.glm4voice.training.lora import main, tune, write_merged
from pipelines.glm4voice.training.run import Run, TrainingError
from pipelines.glm4voice.training.settings.lora import LoraSettings
from tests.pipelines.glm4voice.training.small_corpus import SMALL, write_small_corpus

LORA = LoraSettings(rank=2, n_steps=3, n_text_rows=2, n_sound_rows=1, learning_rate=0.01)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A work folder with a corpus and a chain in the released formats."""
    work = tmp_path_factory.mktemp("work")
    write_embedded_checkpoint(work)
    write_small_corpus(work / "corpus")
    return Run("lora", SMALL.model_copy(update={"lora": LORA}), work)


def test_a_released_folder_is_tuned_and_left_as_it_was(run: Run, tmp_path: Path) -> None:
    """The adapter learns, the folder does not change, and the merged folder loads as a chain."""
    start, tokenizer = run.work / "lm", run.work / "tokenizer"
    before = read_safetensors(start)

    adapter = tune(run, start=start, speech_tokenizer=tokenizer, out=tmp_path / "lora")
    write_merged(start, adapter, tmp_path / "merged")

    learned = load_file(tmp_path / "lora/adapter_model.safetensors")
    after = read_safetensors(start)
    assert all(float(one.abs().sum()) > 0 for one in learned.values())
    assert all(bool((before[name] == after[name]).all()) for name in before)
    chain = load_chain(
        tokenizer_dir=tokenizer,
        language_model_dir=tmp_path / "merged",
        decoder_dir=run.work / "decoder",
    )
    assert chain.max_context_tokens == 8192


def test_memory_is_computed_without_weights(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """config.json alone tells what a run needs."""
    (tmp_path / "config.json").write_text((run.work / "lm/config.json").read_text())

    main(["--fast", "--memory", "--start", str(tmp_path)])

    assert "all together" in capsys.readouterr().out


def test_an_adapter_goes_on_with_its_own_scale(run: Run, tmp_path: Path) -> None:
    """Its weights do not tell how often they count."""
    lora = LORA.model_copy(update={"alpha": 2 * LORA.alpha})
    other = replace(run, config=SMALL.model_copy(update={"lora": lora}))
    tokenizer = run.work / "tokenizer"
    tune(run, start=run.work / "lm", speech_tokenizer=tokenizer, out=tmp_path / "lora")

    with pytest.raises(TrainingError, match=r"otherwise: alpha was 32\.0 and is 64\.0; go on"):
        tune(other, start=run.work / "lm", speech_tokenizer=tokenizer, out=tmp_path / "lora")


def test_a_finished_run_is_not_done_again(run: Run, tmp_path: Path) -> None:
    """The state of a run that is done is loaded, and gives the same adapter."""
    start, tokenizer = run.work / "lm", run.work / "tokenizer"
    tune(run, start=start, speech_tokenizer=tokenizer, out=tmp_path / "one")

    tune(run, start=start, speech_tokenizer=tokenizer, out=tmp_path / "two")

    name = "adapter_model.safetensors"
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
