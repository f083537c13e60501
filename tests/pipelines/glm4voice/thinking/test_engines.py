"""Which engine serves a folder, and smaller weights."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from pipelines.glm4voice.thinking.engine import CannotQuantize, ContextTooLong, Engine, EngineLost
from pipelines.glm4voice.thinking.engines import limit_context, load_engine, local_engine
from pipelines.glm4voice.thinking.key_values import OneByOne
from pipelines.glm4voice.thinking.language_model import load_language_model
from pipelines.glm4voice.thinking.local_engine import LocalEngine
from pipelines.glm4voice.thinking.quantize import quantized
from pipelines.glm4voice.thinking.slots import Slots, slots_bytes
from pipelines.glm4voice.thinking.vllm_engine import VllmEngine
from tests.pipelines.glm4voice.thinking.engine_contract import PROMPT, Driver, greedy
from tests.pipelines.glm4voice.thinking.token_server import TokenServer

HAS_LIBRARY = importlib.util.find_spec("bitsandbytes") is not None


def load(folder: Path, **options: str | int | None) -> Engine:
    chosen = {"device": "cpu", "dtype": "float32", "quantize": "none", "vllm_url": None, **options}
    return load_engine(folder, max_sessions=4, **chosen)  # type: ignore[arg-type]


def n_bytes(slots: Slots) -> int:
    return sum(tensor.nbytes for layer in slots.layers for tensor in layer)


def say(engine: Engine, prompt: Sequence[int]) -> list[int]:
    driver = Driver(engine)
    return driver.say(driver.opened(prompt), greedy(6))


def test_a_server_says_what_this_process_would(golden: Path) -> None:
    """With an address the server is asked; its conversations are as long as both sides allow."""
    here = load(golden / "lm")
    with TokenServer(here) as server:
        there = load(golden / "lm", vllm_url=server.url)

        assert isinstance(there, VllmEngine)
        assert (there.vocab_size, there.max_positions) == (here.vocab_size, here.max_positions)
        assert say(there, PROMPT) == say(here, PROMPT)

    with pytest.raises(EngineLost):
        load(golden / "lm", vllm_url=server.url)


def test_a_cpu_batches_where_slots_are_small(golden: Path) -> None:
    """On a CPU slots are for models whose slots cost little; others are freed call by call."""
    model = load_language_model(golden / "lm", device="cpu", dtype=torch.float32)

    few, very_many = local_engine(model, max_sessions=4), local_engine(model, max_sessions=10**6)

    assert slots_bytes(model, n_slots=4) == n_bytes(Slots(model, n_slots=4))
    assert isinstance(few.compute, Slots)
    assert isinstance(very_many.compute, OneByOne)


def test_conversations_can_be_kept_short(golden: Path) -> None:
    """Less room for each conversation changes nothing of what is said within it."""
    whole, short = load(golden / "lm"), load(golden / "lm", max_context_tokens=len(PROMPT) + 6)
    with TokenServer(whole) as server:
        there = load(golden / "lm", vllm_url=server.url, max_context_tokens=100)

    assert (short.max_positions, there.max_positions) == (len(PROMPT) + 6, 100)
    assert say(short, PROMPT) == say(whole, PROMPT)
    with pytest.raises(ContextTooLong, match="can read 1024 tokens, not 1025"):
        load(golden / "lm", max_context_tokens=1025)


def test_slots_are_as_long_as_conversations(golden: Path) -> None:
    """A device gives each call memory for the longest conversation there can be, and no more."""
    model = load_language_model(golden / "lm", device="cpu", dtype=torch.float32)
    long = Slots(model, n_slots=2)
    limit_context(model.config, 256)
    short = Slots(model, n_slots=2)

    assert short.max_positions == 256
    assert n_bytes(short) * (long.max_positions + 1) == n_bytes(long) * (256 + 1)


@pytest.mark.skipif(HAS_LIBRARY, reason="bitsandbytes is installed")
@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_a_missing_library_is_named(tmp_path: Path, kind: str) -> None:
    """Smaller weights without the library end with a sentence that says what to do.

    It comes before minutes of reading: that there are no weights at all is not noticed.
    """
    with pytest.raises(CannotQuantize, match="pip install bitsandbytes"):
        load(tmp_path, quantize=kind)


def test_an_unknown_kind_is_refused(golden: Path) -> None:
    """There are three kinds, no more."""
    with pytest.raises(ValueError, match="none, 8bit, 4bit"):
        load(golden / "lm", quantize="2bit")


class _AnyLinear(nn.Linear):
    """What the library has, as far as we use it, without making anything smaller."""

    def __init__(self, n_in: int, n_out: int, has_bias: bool, **_how: object) -> None:
        super().__init__(n_in, n_out, has_bias)


def _parameter(weight: Tensor, *, requires_grad: bool, **_how: object) -> nn.Parameter:
    return nn.Parameter(weight, requires_grad)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library in the place of bitsandbytes, which needs a card."""
    names = {"Linear8bitLt": _AnyLinear, "Linear4bit": _AnyLinear}
    parts = SimpleNamespace(**names, Int8Params=_parameter, Params4bit=_parameter)
    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace(nn=parts))


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_smaller_weights_reach_the_device_by_way_of_the_cpu(golden: Path, kind: str) -> None:
    """Nothing large is read onto the device, here one from which no number comes back.

    In the end all that the model consists of is there, its table of rotations as well.
    """
    engine = load(golden / "lm", device="meta", quantize=kind)

    assert isinstance(engine, LocalEngine)
    assert isinstance(engine.compute, Slots)
    model = engine.compute.model
    held = [*model.parameters(), *model.buffers()]
    assert {one.device.type for one in held} == {"meta"}
    assert type(model.model.layers[0].mlp.down_proj) is _AnyLinear


@pytest.mark.skipif(not HAS_LIBRARY, reason="bitsandbytes is not installed")
@pytest.mark.parametrize(("kind", "tolerance"), [("8bit", 0.1), ("4bit", 0.8)])
def test_smaller_weights_think_nearly_the_same(golden: Path, kind: str, tolerance: float) -> None:
    """Logits of smaller weights stay near those of the file, and the matrices are smaller."""
    logits, sizes = [], []
    for one in ("none", kind):
        model = quantized(
            load_language_model(golden / "lm", device="cpu", dtype=torch.float32), one, device="cpu"
        )
        compute = OneByOne(model)
        with torch.inference_mode():
            logits.append(compute.extend(compute.new(), PROMPT))
        weight = model.model.layers[0].mlp.down_proj.weight
        sizes.append(weight.numel() * weight.element_size())

    spread = float(logits[0].std())
    assert float((logits[0] - logits[1]).abs().mean()) < tolerance * spread
    assert sizes[1] * 4 <= sizes[0]


@pytest.mark.requires_cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_graphs_say_what_steps_say(golden: Path, dtype: torch.dtype) -> None:
    """On CUDA, calls replayed as graphs in batches say what each says when computed alone.

    It is the last device: where there are several, it is not the current one.
    """
    device = f"cuda:{torch.cuda.device_count() - 1}"
    model = load_language_model(golden / "lm", device=device, dtype=dtype)
    graphs, plain = local_engine(model, max_sessions=4), LocalEngine(OneByOne(model))
    prompts = [PROMPT, PROMPT[:20], PROMPT[:45]]
    driver = Driver(graphs)

    together = driver.run(
        *(driver.opened(prompt).generate(greedy(6), stop_ids=()) for prompt in prompts)
    )

    alone = [say(plain, prompt) for prompt in prompts]
    if dtype is torch.float32:  # in half precision another order of sums can turn a near tie
        assert together == alone
    assert [len(one) for one in together] == [6, 6, 6]
