"""The question put to the GPU host every second."""

import pytest

from bot.inbound.gpu_probe import health_url


@pytest.mark.parametrize(
    ("host_url", "expected"),
    [
        ("ws://127.0.0.1:8765/v1/realtime", "http://127.0.0.1:8765/healthz"),
        ("wss://gpu.example.com/v1/realtime?x=1", "https://gpu.example.com/healthz"),
        ("ws://[::1]:8765", "http://[::1]:8765/healthz"),
    ],
)
def test_health_url(host_url: str, expected: str) -> None:
    """The health page is on the Realtime endpoint's host and port."""
    assert health_url(host_url) == expected
