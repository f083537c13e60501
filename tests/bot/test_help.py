"""What `--help` tells of every command."""

import re
from collections.abc import Callable, Sequence

import pytest

from bot import bench, campaign, dialer, gpu, records, rehearse, simulate, web

Main = Callable[[Sequence[str]], int]
OF_CAMPAIGN = ("create", "import", "start", "status", "export", "stop", "delete", "list")
OF_RECORDS = ("list", "show", "forget")
COMMANDS: list[tuple[Main, tuple[str, ...]]] = [
    *[(module.main, ()) for module in (web, gpu, dialer, simulate, rehearse, bench)],
    *[(campaign.main, words) for words in ((), *((word,) for word in OF_CAMPAIGN))],
    *[(records.main, words) for words in ((), *((word,) for word in OF_RECORDS))],
]


def untold(help_text: str) -> list[str]:
    """The arguments behind or below which nothing stands."""
    lines = help_text.splitlines()
    begins = [i for i, line in enumerate(lines) if line in ("positional arguments:", "options:")]
    found = []
    for begin in begins:
        rows = lines[begin + 1 :]
        rows = rows[: rows.index("")] if "" in rows else rows
        for row, below in zip(rows, [*rows[1:], ""], strict=True):
            is_argument = len(row) - len(row.lstrip()) <= 4
            is_told = "  " in row.strip() or below.startswith(" " * 6)
            if is_argument and not is_told:
                found.append(row.strip())
    return found


@pytest.mark.parametrize(("main", "words"), COMMANDS)
def test_every_argument_is_told(
    main: Main, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """With a word or two for each, so that nobody has to read code."""
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    shown = capsys.readouterr().out

    assert ended.value.code == 0
    assert "options:" in shown
    assert untold(shown) == []


@pytest.mark.parametrize("main", [campaign.main, records.main, simulate.main, bench.main])
def test_a_command_is_shown_by_examples(main: Main, capsys: pytest.CaptureFixture[str]) -> None:
    """As one would type them."""
    with pytest.raises(SystemExit):
        main(["--help"])

    assert re.search(r"^ +python -m bot\.\w+ [a-z]", capsys.readouterr().out, re.MULTILINE)
