"""The personas of campaigns as their files are now, so that nobody has to start `web` again."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import structlog

from config.personas import Persona, read_persona
from config.strict_yaml import PromptFileError

__all__ = ["FindPersonas", "PersonaFolder"]

log = structlog.get_logger()

FindPersonas = Callable[[], Awaitable[Mapping[str, Persona]]]  # those there are now, by name
Version = tuple[int, int, int]  # of a file: when it was written, its size, its place on the disk


class PersonaFolder:
    """Looks at a folder whenever it is asked, and reads only the files that are new or changed.

    A persona whose file is broken or gone stays as it was when it was last good.
    """

    def __init__(self, folder: Path, known: Mapping[str, Persona]) -> None:
        """`known` are the personas that were read at the start."""
        self._folder = folder
        self._personas = dict(known)
        self._versions: dict[Path, Version] = {}
        self._looking = asyncio.Lock()

    async def now(self) -> Mapping[str, Persona]:
        """All personas by name. Cancelling leaves what is new to the next who asks."""
        async with self._looking:
            read = await asyncio.to_thread(_read_new, self._folder, dict(self._versions))
            for path, (version, result) in read.items():
                self._versions[path] = version
                self._take(path, result)
            return dict(self._personas)

    def _take(self, path: Path, result: Persona | PromptFileError) -> None:
        if isinstance(result, Persona):
            if self._personas.get(result.name) != result:
                log.info("persona_read", persona=result.name)
            self._personas[result.name] = result
        else:
            log.error(
                "persona_unusable",
                persona=path.stem,
                stays_as_it_was=path.stem in self._personas,
                what_to_do=f"mend {path}; `python -m bot.campaign create` tells its faults",
                pii_error=str(result),  # it may quote the prompt
            )


def _read_new(
    folder: Path, known: Mapping[Path, Version]
) -> dict[Path, tuple[Version, Persona | PromptFileError]]:
    versions = {path: _version(path) for path in sorted(folder.glob("*.yaml"))}
    return {
        path: (version, _read(path))
        for path, version in versions.items()
        if version is not None and known.get(path) != version
    }


def _version(path: Path) -> Version | None:
    """None for a file that is gone."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _read(path: Path) -> Persona | PromptFileError:
    try:
        return read_persona(path)
    except PromptFileError as exc:
        return exc
