"""Whether a simulated call went as its scenario expects: one sentence per expectation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bot.simulation.scenarios import After, Ends, Expect, Heard, Quiet, Span, Spoken
from bot.simulation.spoken import Listener, pitch_hz, sound_ms
from bot.simulation.turns import turns_of
from telephony.emulator import CallRecord
from telephony.emulator.hearing import loud_frames
from telephony.g711 import FRAME_MS

SPOKEN = "spoken_after_"  # begins the names of checks of what was said


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation: its name, whether it held, and what was found, as a sentence."""

    name: str
    passed: bool
    sentence: str


def check_call(
    expect: Expect,
    record: CallRecord,
    labels: Mapping[str, int],
    failure: str | None,
    *,
    sentences: Sequence[str] = (),
) -> tuple[Check, ...]:
    """Compare a call with what was expected of it.

    `failure` is a step that could not be done, `sentences` all that the bot may say. Takes up to a
    second for each sentence that is expected. Raises JudgeError for one that cannot be pronounced.
    """
    checks = [Check("steps", failure is None, failure or "every step was carried out")]
    checks += _times(expect, record)
    checks += [_heard(item, record, labels) for item in expect.heard]
    checks += [_quiet(item, record, labels) for item in expect.quiet]
    checks += [_cleared(item, record, labels) for item in expect.cleared]
    listener = Listener(sentences)
    checks += [_spoken(item, record, labels, listener) for item in expect.spoken]
    counts = {
        "replies": (expect.replies, len(record.bot_stretches)),
        "clears": (expect.clears, sum(stream.clears for stream in record.streams)),
        "underruns": (expect.underruns, record.underruns),
    }
    checks += [_count(name, span, n) for name, (span, n) in counts.items() if span is not None]
    checks += _ends(expect.ends, record, labels)
    return tuple(checks)


def _times(expect: Expect, record: CallRecord) -> Iterator[Check]:
    if expect.greeting_within_ms is not None:
        limit_ms, first = expect.greeting_within_ms, next(iter(record.bot_stretches), None)
        found = f"first heard after {first.start_ms} ms" if first else "never heard"
        passed = first is not None and first.start_ms <= limit_ms
        yield Check("greeting", passed, f"the bot was {found}; limit {limit_ms} ms")
    if expect.reply_latency_ms is not None:
        turns = turns_of(record.caller_stretches, record.bot_stretches)
        latencies = [turn.latency_ms for turn in turns if turn.latency_ms is not None]
        limit_ms = expect.reply_latency_ms
        found = ", ".join(str(ms) for ms in latencies) or "none"
        passed = bool(latencies) and max(latencies) <= limit_ms
        yield Check("reply_latency", passed, f"reply latencies {found} ms; limit {limit_ms} ms")


def _heard(item: Heard, record: CallRecord, labels: Mapping[str, int]) -> Check:
    name = f"heard_after_{item.after}"
    since_ms = labels.get(item.after)
    if since_ms is None:
        return _no_label(name, item)
    new_ms = _end_of_running_sound(record, since_ms)
    new = slice(new_ms // FRAME_MS, (since_ms + item.within_ms) // FRAME_MS)
    sound_ms = int(loud_frames(record.recording.heard_mulaw)[new].sum()) * FRAME_MS
    found = f"{sound_ms} ms of new sound within {item.within_ms} ms after {item.after}"
    return Check(name, sound_ms >= item.at_least_ms, f"{found}; at least {item.at_least_ms} ms")


def _quiet(item: Quiet, record: CallRecord, labels: Mapping[str, int]) -> Check:
    name = f"quiet_after_{item.after}"
    since_ms = labels.get(item.after)
    if since_ms is None:
        return _no_label(name, item)
    first = (since_ms + item.within_ms) // FRAME_MS
    span = slice(first, first + item.for_ms // FRAME_MS)
    n_loud = int(loud_frames(record.recording.heard_mulaw)[span].sum())
    which = f"the {item.for_ms} ms that began {item.within_ms} ms after {item.after}"
    if record.duration_ms < since_ms + item.within_ms + item.for_ms:
        return Check(name, False, f"the call ended before the end of {which}")
    return Check(name, n_loud == 0, f"{n_loud * FRAME_MS} ms of sound in {which}; none allowed")


def _cleared(item: After, record: CallRecord, labels: Mapping[str, int]) -> Check:
    name = f"cleared_after_{item.after}"
    since_ms = labels.get(item.after)
    if since_ms is None:
        return _no_label(name, item)
    clears = [e.at_ms - since_ms for e in record.events if e.name == "clear_received"]
    first_ms = next((ms for ms in clears if ms >= 0), None)
    found = "no clear came" if first_ms is None else f"clear came {first_ms} ms"
    passed = first_ms is not None and first_ms <= item.within_ms
    return Check(name, passed, f"{found} after {item.after}; limit {item.within_ms} ms")


def _spoken(
    item: Spoken, record: CallRecord, labels: Mapping[str, int], listener: Listener
) -> Check:
    name = SPOKEN + item.after
    since_ms = labels.get(item.after)
    if since_ms is None:
        return _no_label(name, item)
    heard = listener.hear(item, record, since_ms)
    found = "nothing that the bot may say" if heard is None else f"“{heard}”"
    is_right = heard == item.sentence
    wanted = "as expected" if is_right else f"expected “{item.sentence}”"
    sentence = f"after {item.after} the judge heard {found}; {wanted}"
    if item.lasts_ms is not None:
        lasted_ms = sound_ms(item, record, since_ms)
        is_right &= item.lasts_ms.holds(lasted_ms)
        sentence += f"; it lasted {lasted_ms} ms, {item.lasts_ms.bounds}"
    if item.pitch_hz is not None:
        mean_hz = pitch_hz(item, record, since_ms)
        is_right &= item.pitch_hz.holds(mean_hz)
        sentence += f"; its pitch was {mean_hz} Hz, {item.pitch_hz.bounds}"
    return Check(name, is_right, sentence)


def _count(name: str, span: Span, n: int) -> Check:
    return Check(name, span.holds(n), f"{n} {name}; {span.bounds}")


def _ends(ends: Ends, record: CallRecord, labels: Mapping[str, int]) -> Iterator[Check]:
    by, reason = record.end.by.value, record.end.reason
    wanted = ends.by if ends.reason is None else f"{ends.by} ({ends.reason})"
    passed = by == ends.by and ends.reason in (None, reason)
    yield Check("ended_by", passed, f"the call was ended by {by} ({reason}); expected {wanted}")
    if ends.path is not None:
        path = list(record.twiml_path)
        found = " ".join(path) or "nothing"
        wanted = " ".join(ends.path)
        yield Check("twiml_path", path == ends.path, f"TwiML ran {found}; expected {wanted}")
    if ends.after is not None and ends.within_ms is not None:
        since_ms = labels.get(ends.after)
        took_ms = None if since_ms is None else record.duration_ms - since_ms
        passed = took_ms is not None and took_ms <= ends.within_ms
        found = "never" if took_ms is None else f"{took_ms} ms"
        limit = f"limit {ends.within_ms} ms"
        yield Check("ended_in_time", passed, f"the call ended {found} after {ends.after}; {limit}")


def _no_label(name: str, item: After) -> Check:
    return Check(name, False, f"the step labelled {item.after} was never reached")


def _end_of_running_sound(record: CallRecord, at_ms: int) -> int:
    """When the sound that was under way at a moment ends, pauses included; without any, then."""
    running = (s.end_ms for s in record.bot_stretches if s.start_ms < at_ms < s.end_ms)
    return next(running, at_ms)
