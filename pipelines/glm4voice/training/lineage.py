"""What a run began with, without which it does not go on.

The codes of another speech tokenizer, for one, mean other sounds.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipelines.glm4voice.checkpoint import weights_path
from pipelines.glm4voice.training.files import replace_text
from pipelines.glm4voice.training.loop import has_begun
from pipelines.glm4voice.training.run import Run, TrainingError
from pipelines.glm4voice.training.utterances import Corpus

Facts = Mapping[str, Any]  # as JSON has them
_MOST_SHOWN = 3  # differences in one message
_N_SHOWN = 16  # letters of a digest


def hold_to(run: Run, tokenizer_dir: Path) -> str:
    """Note the tokenizer of a run that begins; returns its digest.

    Raises TrainingError where the run has state that was learned with another one, and
    CheckpointError for a folder without weights.
    """
    digest = hashlib.sha256(weights_path(tokenizer_dir).read_bytes()).hexdigest()
    noted = run.folder / "tokenizer.json"
    if has_begun(run) and noted.exists() and json.loads(noted.read_text()) != digest:
        raise TrainingError(
            f"{run.folder} was trained with another speech tokenizer than {tokenizer_dir}, whose"
            " codes mean other sounds: move it away to begin anew"
        )
    noted.parent.mkdir(parents=True, exist_ok=True)
    replace_text(noted, json.dumps(digest))
    return digest


def hold_to_origin(run: Run, began: Facts) -> None:
    """Note what a run begins with, beside what is noted already.

    Raises TrainingError where the run has state, and one of these facts was another when it began.
    """
    path = run.folder / "origin.json"
    noted = json.loads(path.read_text()) if path.exists() else {}
    now = json.loads(json.dumps(began, default=str))
    known = {name: now[name] for name in now if name in noted}
    if has_begun(run) and (wrong := differences({name: noted[name] for name in known}, known)):
        raise TrainingError(
            f"{run.folder} was begun otherwise: {wrong}; go on as it was begun, or move it away to"
            " begin anew"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps({**noted, **now}, indent=2) + "\n")


def origin_of(corpus: Corpus, start: Path | None, *, weights: str, written: Path) -> Facts:
    """Which corpus a run learns from, and which folder it goes on from, by its `weights`, a glob.

    A run may go on from the folder that it writes: that is then all that is said of it.
    """
    begun: str | None = None
    if start is not None:
        is_same = start.resolve() == written.resolve()
        begun = "the folder that is written" if is_same else digest_of(start.glob(weights))
    return {"--start": begun, "corpus": corpus.fingerprint[:_N_SHOWN]}


def digest_of(paths: Iterable[Path]) -> str:
    """What files hold, in a few letters; in whatever order they are named."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:_N_SHOWN]


def differences(noted: Facts, now: Facts) -> str:
    """What differs, in words, each with what it was and what it is; a fact left out is a default.

    Empty where nothing does.
    """
    differing = [name for name in {**noted, **now} if noted.get(name) != now.get(name)]
    shown = [
        f"{name} was {_shown(noted.get(name))} and is {_shown(now.get(name))}"
        for name in differing[:_MOST_SHOWN]
    ]
    n_more = len(differing) - len(shown)
    return "; ".join([*shown, *([f"{n_more} more"] if n_more else [])])


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings as one mapping: a section's names are put before those in it, with dots."""
    facts: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            facts |= flat(value, f"{prefix}{name}.")
        else:
            facts[f"{prefix}{name}"] = value
    return facts


def _shown(fact: Any) -> str:
    return "left out" if fact is None else json.dumps(fact, ensure_ascii=False)
