"""What a run of scenarios leaves behind: WAV, picture and events of each call, and one JUnit."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from bot.simulation.checks import SPOKEN, Check
from bot.simulation.scenarios import Scenario
from bot.simulation.timeline import draw_timeline
from bot.simulation.turns import turns_of
from telephony.emulator import CallRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One call of a run. Without a record the call could not be placed; `checks` says why."""

    name: str  # of its files: the scenario's, with a number where there are several calls
    scenario: Scenario
    checks: tuple[Check, ...]
    record: CallRecord | None

    @property
    def passed(self) -> bool:
        """Whether every expectation held."""
        return all(check.passed for check in self.checks)

    @property
    def heard(self) -> list[str]:
        """A sentence for each of the bot's that was heard as expected."""
        checks = (check for check in self.checks if check.passed)
        return [check.sentence for check in checks if check.name.startswith(SPOKEN)]

    @property
    def failures(self) -> list[str]:
        """A sentence for each expectation that did not hold."""
        return [check.sentence for check in self.checks if not check.passed]


def write_call(folder: Path, outcome: Outcome) -> None:
    """Write the WAV, the picture and the events of one call. Takes about half a second."""
    record = outcome.record
    if record is None:
        return
    write_wav(folder / f"{outcome.name}.wav", record)
    lines = [event.dump() + "\n" for event in record.events]
    (folder / f"{outcome.name}.jsonl").write_text("".join(lines), encoding="utf-8")
    draw_timeline(
        folder / f"{outcome.name}.png",
        record,
        title=outcome.scenario.title,
        verdict="passed" if outcome.passed else "failed",
    )


def write_wav(path: Path, record: CallRecord) -> None:
    """Write both sides as 16 bit at 8 kHz: the caller left, the bot right as it was heard."""
    path.write_bytes(record.recording.wav(2))


def write_junit(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write one test suite per call, one test case per expectation."""
    checks = [check for outcome in outcomes for check in outcome.checks]
    root = ElementTree.Element("testsuites", _counts(checks))
    for outcome in outcomes:
        suite = ElementTree.SubElement(root, "testsuite", _counts(outcome.checks))
        suite.set("name", outcome.name)
        if outcome.record is not None:
            suite.set("time", f"{outcome.record.duration_ms / 1000:.3f}")
        for check in outcome.checks:
            case = ElementTree.SubElement(suite, "testcase", name=check.name)
            case.set("classname", outcome.scenario.name)
            if not check.passed:
                ElementTree.SubElement(case, "failure", message=check.sentence)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def summary(outcomes: Sequence[Outcome]) -> Table:
    """One line per call for the terminal: verdict, reply latencies, gaps, lead, end."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("call", "result"):
        table.add_column(heading, no_wrap=True)
    for heading in ("lasted", "reply latency (ms)", "gaps", "lead (ms)"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("ended by", no_wrap=True)
    for outcome in outcomes:
        verdict = "[green]passed[/]" if outcome.passed else "[red]failed[/]"
        table.add_row(outcome.name, verdict, *_facts(outcome.record))
    return table


def _facts(record: CallRecord | None) -> tuple[str, ...]:
    if record is None:
        return ("", "", "", "", "not placed")
    turns = turns_of(record.caller_stretches, record.bot_stretches)
    latencies = [str(turn.latency_ms) for turn in turns if turn.latency_ms is not None]
    shown = latencies if len(latencies) <= 6 else [*latencies[:5], f"… {len(latencies)} in all"]
    gaps = f"{record.underruns} ({record.underrun_ms:.0f} ms)" if record.underruns else "0"
    lead_ms = max((stream.mean_lead_ms for stream in record.streams), default=0.0)
    ended = f"{record.end.by.value}: {record.end.reason.replace('_', ' ')}"
    lasted = f"{record.duration_ms / 1000:.1f} s"
    return (lasted, " ".join(shown) or "-", gaps, f"{lead_ms:.0f}", ended)


def _counts(checks: Sequence[Check]) -> dict[str, str]:
    n_failures = sum(not check.passed for check in checks)
    return {"tests": str(len(checks)), "failures": str(n_failures), "errors": "0"}
