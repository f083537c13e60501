"""Runs the engine's contract, and a whole telephone call, against real vLLM servers on a CPU.

    python tests/vllm/run.py PYTHON_WITH_VLLM

The contract is held with a small random checkpoint that is written here, and with a LoRA adapter of
it that the server loads; the call with the trained one that the repository brings, so that answers
can be judged. Each server listens on a free port of the loopback and is stopped after its test.
`make test-vllm` makes the environment first.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = "tests/pipelines/glm4voice/thinking/test_vllm_engine.py"
SCENARIO = "prompts/scenarios/question-and-answer.yaml"
ADAPTER = "line"
FLOW_STEPS = 3  # what the trained checkpoint is served with
READY_TIMEOUT_S = 300  # on two busy cores; 30 s on idle ones
TWIN = ROOT / "pipelines/glm4voice/twin"
HEAD_DIM = "32"  # the smallest that vLLM's attention on a CPU takes

SERVER_ENVIRONMENT = {
    "VLLM_HOST_IP": "127.0.0.1",  # its own processes talk over loopback
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}


def server_command(python: str, model: Path, port: int, adapter: Path | None) -> list[str]:
    """vLLM's own command line; the same on a GPU, but for dtype, eager mode and the two sizes."""
    loaded = ("--enable-lora", "--max-lora-rank", "16", "--lora-modules", f"{ADAPTER}={adapter}")
    return [
        *(python, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(model), "--host", "127.0.0.1", "--port", str(port)),
        *("--tokens-only", "--max-model-len", "4096"),
        *("--dtype", "float32", "--enforce-eager"),
        *("--block-size", "32", "--max-num-batched-tokens", "4096"),
        *(loaded if adapter else ()),
    ]


@contextmanager
def vllm(python: str, model: Path, log: Path, adapter: Path | None = None) -> Iterator[str]:
    """The address of a server that serves `model`, and an adapter of it."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    with log.open("wb") as output:
        process = subprocess.Popen(
            server_command(python, model, port, adapter),
            env={**os.environ, **SERVER_ENVIRONMENT},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, process, log)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    tail = log.read_text(errors="replace")[-4000:]
    sys.exit(f"vLLM is not ready (status {process.returncode}):\n{tail}")


def main(vllm_python: str) -> int:
    """Exit status: 0 if all passed."""
    python = sys.executable
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write = [python, "-m", "pipelines.glm4voice.embedded", name, "--head-dim", HEAD_DIM]
        subprocess.run(write, cwd=ROOT, check=True)
        with vllm(vllm_python, folder / "lm", folder / "contract.log") as url:
            contract = {"VLLM_TEST_URL": url, "VLLM_TEST_CHECKPOINT": str(folder / "lm")}
            statuses = [run([python, "-m", "pytest", CONTRACT], contract)]
        adapter = folder / "adapter"
        write = [python, "-m", "tests.vllm.adapter", str(folder / "lm"), str(adapter)]
        subprocess.run(write, cwd=ROOT, check=True)
        with vllm(vllm_python, folder / "lm", folder / "adapter.log", adapter) as url:
            contract = {
                "VLLM_TEST_URL": url,
                "VLLM_TEST_CHECKPOINT": str(folder / "lm"),
                "VLLM_TEST_ADAPTER": str(adapter),
            }
            statuses.append(run([python, "-m", "pytest", CONTRACT], contract))
        with vllm(vllm_python, TWIN / "lm", folder / "call.log") as url:
            call = {
                "VOICEBOT_VLLM_URL": url,
                "VOICEBOT_TOKENIZER_DIR": str(TWIN / "tokenizer"),
                "VOICEBOT_LANGUAGE_MODEL_DIR": str(TWIN / "lm"),
                "VOICEBOT_DECODER_DIR": str(TWIN / "decoder"),
                "VOICEBOT_FLOW_STEPS": str(FLOW_STEPS),
            }
            simulate = [python, "-m", "bot.simulate", SCENARIO, "--out", str(folder / "calls")]
            statuses.append(run(simulate, call))
    return max(statuses)


def run(command: list[str], environment: dict[str, str]) -> int:
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}).returncode


if __name__ == "__main__":
    # not resolved: the path of a virtual environment's python is what makes it one
    sys.exit(main(os.path.abspath(sys.argv[1])))
