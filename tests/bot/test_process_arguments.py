"""What a process tells of itself before it has any settings."""

import os
import subprocess
import sys

import pytest

from config.settings import DialerSettings, GpuSettings, ProcessSettings, WebSettings

KINDS: list[tuple[str, type[ProcessSettings]]] = [
    ("bot.web", WebSettings),
    ("bot.gpu", GpuSettings),
    ("bot.dialer", DialerSettings),
]


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_help_names_every_setting(name: str, kind: type[ProcessSettings]) -> None:
    """With what it is by itself, and without asking for any."""
    known = {key: value for key, value in os.environ.items() if not key.startswith("VOICEBOT_")}
    command = [sys.executable, "-m", name, "--help"]
    done = subprocess.run(
        command, env=known, capture_output=True, text=True, check=True, timeout=120
    )

    assert done.stderr == ""
    assert f"usage: python -m {name}" in done.stdout
    named = [line.split()[0] for line in done.stdout.splitlines() if "  VOICEBOT_" in line]
    assert named == [f"VOICEBOT_{field.upper()}" for field in kind.model_fields]
    senses = [f"\n      {field.description}\n" for field in kind.model_fields.values()]
    assert [sense for sense in senses if sense not in done.stdout] == []
    assert not any("None" in sense for sense in senses)
