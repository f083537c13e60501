"""The command line of what has settings in the environment: processes and commands."""

import argparse

from config.settings import ProcessSettings, settings_help

__all__ = ["process_parser"]


def process_parser(
    name: str, about: str | None, kind: type[ProcessSettings]
) -> argparse.ArgumentParser:
    """A parser whose help names the settings; `about` is the docstring of the module `name`."""
    return argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=about,
        epilog=settings_help(kind),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
