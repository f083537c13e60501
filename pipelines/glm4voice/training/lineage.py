"""Which speech tokenizer a run has learned the codes of: those of another one mean other sounds."""

import hashlib
import json
from pathlib import Path

from pipelines.glm4voice.checkpoint import weights_path
from pipelines.glm4voice.training.loop import has_begun
from pipelines.glm4voice.training.run import Run, TrainingError


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
    noted.write_text(json.dumps(digest))
    return digest
