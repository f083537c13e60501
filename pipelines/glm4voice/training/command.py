"""How a stage's command ends: what is wrong is said in a line, and in the exit status."""

import functools
from collections.abc import Callable, Sequence

from rich.console import Console

from config.strict_yaml import PromptFileError
from pipelines.espeak import SpeechSynthesisError
from pipelines.glm4voice.checkpoint import CheckpointError
from pipelines.glm4voice.training.run import TrainingError

Main = Callable[[Sequence[str] | None], int | None]


def command(main: Main) -> Callable[..., int]:
    """Make `main` a command that takes arguments, or None for those of the process.

    It returns its exit status: that of `main`, 0 for None, or 2 where a stage cannot begin or go
    on, which is then said on stderr. SystemExit passes.
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv) or 0
        except (TrainingError, CheckpointError, PromptFileError, SpeechSynthesisError) as exc:
            # as it is: neither folded to the terminal's width nor read as markup
            console = Console(stderr=True, highlight=False)
            console.print(str(exc), style="red", markup=False, soft_wrap=True)
            return 2

    return run
