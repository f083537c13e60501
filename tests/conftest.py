"""What all tests share: a scale for timeouts, and an environment without settings."""

import os

import hypothesis
import pytest

# One millisecond of patience, in seconds: slow machines raise VOICEBOT_TEST_SLOWNESS.
MS = 0.001 * float(os.environ.pop("VOICEBOT_TEST_SLOWNESS", "1"))

# CI tries the same examples each time; a developer's machine tries new ones
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the developer's shell do not reach a test."""
    for name in [n for n in os.environ if n.startswith("VOICEBOT_")]:
        monkeypatch.delenv(name)
