"""Checks the language model and its text tokenizer against a set of reference numbers."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import DynamicCache

from pipelines.glm4voice.checkpoint import CheckpointError, config_value, read_json
from pipelines.glm4voice.checks.manifest import Manifest, Row, row_or_failure
from pipelines.glm4voice.text_tokenizer import TextTokenizer
from pipelines.glm4voice.thinking.language_model import last_logits, load_language_model
from pipelines.glm4voice.thinking.sampling import sample_probabilities

EXPECTED = "expected/lm.safetensors"
TEXTS = "expected/lm_texts.json"


def rows(directory: Path, manifest: Manifest) -> Iterator[Row]:
    """One row for each expected tensor that is understood, and one for each decoded text.

    Raises CheckpointError if the model, its tokenizer or the texts cannot be read.
    """
    texts = _read_texts(directory / TEXTS)
    tokenizer = TextTokenizer.load(directory / "lm")
    for name, text in texts.items():
        if text.decoded is not None:
            found = tokenizer.decode(tokenizer.encode_prompt(text.prompt))
            yield Row(f"tok.{name}.decoded", None, "exact", found == text.decoded)
    prompts = {name: tokenizer.encode_prompt(text.prompt) for name, text in texts.items()}
    check = _LanguageModelCheck(directory / "lm", manifest, prompts)
    for name in manifest.names(EXPECTED):
        row = row_or_failure(name, partial(check.row, name))
        if row is not None:
            yield row


@dataclass(frozen=True, slots=True)
class _Text:
    prompt: str
    decoded: str | None


def _read_texts(path: Path) -> dict[str, _Text]:
    """The prompts of the set, by name."""
    entries = config_value(read_json(path), "texts", dict, path=path)
    texts = {}
    for name in entries:
        entry = config_value(entries, name, dict, path=path)
        prompt = config_value(entry, "text", str, path=path)
        texts[name] = _Text(prompt, entry.get("decoded"))
    return texts


class _LanguageModelCheck:
    """Computes what a name in the manifest stands for; keeps what several names share."""

    def __init__(self, folder: Path, manifest: Manifest, prompts: dict[str, list[int]]) -> None:
        self._folder = folder
        self._manifest = manifest
        self._prompts = prompts
        self._model = load_language_model(folder, device="cpu", dtype=torch.float32)
        self._logits: dict[str, Tensor] = {}
        self._greedy: dict[str, Tensor] = {}

    @torch.inference_mode()
    def row(self, name: str) -> Row | None:
        """The row of that name; None if the name means nothing here."""
        numbers = self.compute(name)
        if numbers is None:
            return None
        noise = self.noise(name, numbers) if name.endswith("_bf16") else 0.0
        return self._manifest.compare(name, numbers, noise=noise)

    def compute(self, name: str) -> Tensor | None:
        """The numbers of that name; None if the name means nothing here."""
        match name.split(".", 2):
            case ["tok", text, "ids"]:
                return torch.tensor(self._prompt(text))
            case ["lm", "sample_probs", setting]:
                return self._sample_probs(name, setting)
            case ["lm", text, what]:
                return self._of_text(name, text, what)
        return None

    def noise(self, name: str, half: Tensor) -> float:
        """How far logits [V] in half precision are from the same ones in float32."""
        full = self.compute(name.removesuffix("_bf16"))
        return 0.0 if full is None else float((full - half).abs().max())

    def _of_text(self, name: str, text: str, what: str) -> Tensor | None:
        """Logits and choices for one prompt: of its positions, or of what follows it."""
        if what == "logits_last":
            return self._prompt_logits(text)[-1]
        if what == "logits_last_bf16":
            return self._bf16_logits(text)
        if what == "argmax_all":
            return self._prompt_logits(text).argmax(dim=-1)
        if what == "argmax_margin_all":
            return _gap(self._prompt_logits(text))
        if found := re.fullmatch(r"logits_last(\d+)", what):
            return self._prompt_logits(text)[-int(found[1]) :]
        if found := re.fullmatch(r"greedy(\d+)", what):
            return self._greedy_logits(text, int(found[1])).argmax(dim=-1)
        if found := re.fullmatch(r"greedy(\d+)_margin", what):
            return _gap(self._greedy_logits(text, int(found[1])))
        if found := re.fullmatch(r"greedy_logits_step(\d+)", what):
            return self._greedy_logits(text, int(found[1]) + 1)[-1]
        return None

    def _prompt(self, text: str) -> list[int]:
        if text not in self._prompts:
            raise CheckpointError(f"{self._manifest.path}: {TEXTS} has no text {text!r}")
        return self._prompts[text]

    def _prompt_logits(self, text: str) -> Tensor:
        """Logits [T, V] at every position of a prompt."""
        if text not in self._logits:
            ids = torch.tensor([self._prompt(text)])
            self._logits[text] = self._model(ids, use_cache=False).logits[0]
        return self._logits[text]

    def _greedy_logits(self, text: str, n_steps: int) -> Tensor:
        """Logits [n_steps, V] that choose the tokens after a prompt; no stop token is obeyed."""
        known = self._greedy.get(text)
        if known is None or len(known) < n_steps:
            self._greedy[text] = known = self._generate(self._prompt(text), n_steps)
        return known[:n_steps]

    def _generate(self, prompt: list[int], n_steps: int) -> Tensor:
        cache = DynamicCache(config=self._model.config)
        ids, chosen = torch.tensor([prompt]), []
        for _ in range(n_steps):
            logits = last_logits(self._model, ids, cache)
            chosen.append(logits[0])
            ids = logits.argmax(dim=-1, keepdim=True)
        return torch.stack(chosen)

    def _bf16_logits(self, text: str) -> Tensor:
        """Logits [V] at the last position, all arithmetic in the released half precision."""
        model = load_language_model(self._folder, device="cpu", dtype=torch.bfloat16)
        ids = torch.tensor([self._prompt(text)])
        return model(ids, use_cache=False, logits_to_keep=1).logits[0, -1].float()

    def _sample_probs(self, name: str, setting: str) -> Tensor | None:
        """The distribution drawn from, for expected logits and settings that the manifest names."""
        how = self._manifest.how(name)
        values = re.fullmatch(r"t(\d+(?:\.\d+)?)_p(\d+(?:\.\d+)?)", setting)
        top_k, logits = re.search(r"top-k (\d+)", how), re.search(r" on (lm\.[\w.]+\w)", how)
        if not (values and top_k and logits and logits[1] in self._manifest):
            return None
        return sample_probabilities(
            self._manifest.tensor(logits[1]),
            temperature=float(values[1]),
            top_k=int(top_k[1]),
            top_p=float(values[2]),
        )


def _gap(logits: Tensor) -> Tensor:
    """How far the largest logit is ahead of the second, [..., V] to [...]."""
    best = logits.topk(2, dim=-1).values
    return best[..., 0] - best[..., 1]
