"""The house rules that a machine can check: who imports whom, names, releases, what stays out."""

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("bot", "telephony", "pipelines", "config")

# What a room may import of ours; a room is the longest prefix of a module's name found here.
OURS = {
    "bot": {
        "telephony",
        "pipelines.call",
        "pipelines.realtime",
        "pipelines.audio",
        "pipelines.espeak",
        "pipelines.judge",
        "pipelines.pitch",
        "pipelines.private_files",
        "config",
        "bot",
    },
    "bot.gpu": {"pipelines.realtime", "pipelines.glm4voice", "config", "bot"},
    "bot.bench": {"pipelines.glm4voice", "bot"},
    "bot.bench_dialer": {"pipelines.glm4voice.measuring.table", "bot"},
    "bot.bench_page": {"pipelines.glm4voice.measuring.table", "bot"},
    "bot.bench_pictures": {"pipelines.glm4voice.measuring.table"},
    "bot.bench_training": {"pipelines.glm4voice.measuring.table"},
    "telephony": {"telephony", "pipelines.audio", "pipelines.espeak"},
    "pipelines.audio": {"pipelines.audio"},
    "pipelines.espeak": {"pipelines.espeak", "pipelines.audio"},
    "pipelines.private_files": {"pipelines.private_files"},
    "pipelines.judge": {"pipelines.judge", "pipelines.audio"},
    "pipelines.pitch": {"pipelines.pitch", "pipelines.audio"},
    "pipelines.call": {
        "pipelines.call",
        "pipelines.realtime",
        "pipelines.audio",
        "pipelines.private_files",
        "telephony.media_stream",
        "telephony.g711",
        "telephony.playout",
    },
    "pipelines.realtime": {"pipelines.realtime", "pipelines.audio"},
    # the chain implements the contract that the wire states
    "pipelines.glm4voice": {"pipelines.glm4voice", "pipelines.audio", "pipelines.realtime.model"},
    # training commands are processes: they read YAML, and hear and speak without the chain
    "pipelines.glm4voice.training": {
        "pipelines.glm4voice",
        "pipelines.audio",
        "pipelines.espeak",
        "pipelines.judge",
        "pipelines.pitch",
        "pipelines.realtime.model",
        "config.strict_yaml",
        "config.personas",
    },
    "config": {"config"},
}

# Which rooms may import a heavy library.
HEAVY = {
    "torch": {"pipelines.glm4voice"},
    "transformers": {"pipelines.glm4voice"},
    "safetensors": {"pipelines.glm4voice"},
    "tiktoken": {"pipelines.glm4voice"},
    "regex": {"pipelines.glm4voice.training"},
    "pipecat": {"pipelines.call"},
    "onnxruntime": {"pipelines.call"},
    "twilio": {"telephony"},
    "aiohttp": {"telephony.rest"},
    "fastapi": {"bot", "telephony.emulator"},
    "uvicorn": {"bot", "telephony.emulator"},
    "httpx": {"bot", "telephony.emulator"},
    "matplotlib": {"bot", "pipelines.glm4voice.training"},
    "rich": {"bot", "pipelines.glm4voice.training"},
    "espeakng_loader": {"pipelines.espeak"},
    "pocketsphinx": {"pipelines.judge"},
    "openai": {"pipelines.realtime", "pipelines.call"},
    "pydantic_settings": {"config"},
    "loguru": {"config"},
    # the keeper of records knows the errors of the database, and nothing else of it
    "sqlalchemy": {"bot.storage", "bot.line.record_keeper"},
    "alembic": {"bot.storage"},
    "phonenumbers": {"bot.calls.numbers", "bot.campaigns.windows"},
    "holidays": {"bot.campaigns.windows"},
    "openpyxl": {"bot.campaigns.spreadsheets"},
}


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module a file imports, those inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def within(name: str, rooms: set[str]) -> bool:
    return any(name == room or name.startswith(room + ".") for room in rooms)


def room_of(module: str) -> str:
    return max((room for room in OURS if within(module, {room})), key=len)


def test_rooms_import_only_their_neighbours() -> None:
    """No module reaches past the rooms that DESIGN.md lets it know."""
    strays = {m: found for m, p in modules() if m != "pipelines" and (found := stray_rooms(m, p))}

    assert strays == {}


def stray_rooms(module: str, path: Path) -> set[str]:
    allowed = OURS[room_of(module)]
    ours = {name for name in imports(path) if within(name, set(PACKAGES))}
    # `from room import module` yields both names; the room alone is not an import of its contents
    return {
        n
        for n in ours
        if not within(n, allowed) and not any(a.startswith(n + ".") for a in allowed)
    }


def test_heavy_libraries_stay_in_their_rooms() -> None:
    """Torch lives in glm4voice, Pipecat in call, Twilio in telephony."""
    strays = {
        (module, top)
        for module, path in modules()
        for top in {name.split(".")[0] for name in imports(path)} & HEAVY.keys()
        if not within(module, HEAVY[top])
    }

    assert strays == set()


def test_nobody_imports_the_training_room() -> None:
    """What a call needs stands outside training/: the GPU host runs without it."""
    room = {"pipelines.glm4voice.training"}
    importers = [
        m for m, p in modules() if not within(m, room) and any(within(n, room) for n in imports(p))
    ]

    assert importers == []


def test_nobody_imports_bot() -> None:
    """Only bot/ knows its neighbours, so no neighbour knows bot/."""
    importers = [
        m
        for m, p in modules()
        if not within(m, {"bot"}) and any(within(n, {"bot"}) for n in imports(p))
    ]

    assert importers == []


@pytest.mark.parametrize(
    ("process", "banned"),
    [("bot.web", ["torch", "transformers", "scipy"]), ("bot.gpu", ["pipecat"])],
)
def test_a_process_does_not_load_what_it_must_not(process: str, banned: list[str]) -> None:
    """bot.web never loads torch, bot.gpu never loads Pipecat, not even through a library.

    Nor does bot.web load scipy, whose imports take a sixth of the time in which it starts.
    """
    code = f"import {process}, sys; print([n for n in {banned} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True
    )

    assert done.stdout.strip().splitlines()[-1:] == ["[]"], done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_our_names_are_ours(package: str) -> None:
    """The generic top-level names resolve inside this checkout, not to some installed package."""
    spec = importlib.util.find_spec(package)

    assert spec is not None
    assert spec.origin is not None
    assert Path(spec.origin).is_relative_to(ROOT)


def test_the_wheel_claims_no_names() -> None:
    """Installing the project brings dependencies, no packages and no commands."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    assert project["tool"]["setuptools"] == {"packages": [], "py-modules": []}
    assert "scripts" not in project["project"]


def test_prompts_hold_data_only() -> None:
    """prompts/ has no Python in it."""
    assert list((ROOT / "prompts").rglob("*.py")) == []


def test_the_version_is_the_newest_of_the_changelog() -> None:
    """pyproject.toml and CHANGELOG.md name the same release."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    newest = re.search(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert newest is not None
    assert newest.group(1) == project["project"]["version"]


def test_each_module_says_what_it_owns() -> None:
    """Every module opens with a docstring."""
    silent = [m for m, p in modules() if ast.get_docstring(ast.parse(p.read_text())) is None]

    assert silent == []


def test_no_page_is_left_in_mid_merge() -> None:
    """Nothing reads prose but people: a marker of two versions would stay unnoticed."""
    pages = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "prompts").rglob("*.yaml"),
    ]
    marked = [p for p in pages if re.search(r"^(<{7}|>{7}) ", p.read_text("utf-8"), re.MULTILINE)]

    assert marked == []
