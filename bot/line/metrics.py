"""What the process counts, in one Prometheus registry of its own."""

import asyncio
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from pipelines.call.plan import CallResult, TurnRecord

__all__ = ["CONTENT_TYPE", "Metrics", "watch_loop_lag"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
PREFIX = "voicebot"
LATENCY_BUCKETS_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
LAG_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
DURATION_BUCKETS_S = (5, 15, 30, 60, 120, 300, 600, 1200, 3600)
LAG_INTERVAL_S = 0.2


class Metrics:
    """All counters; also the observer that every call reports to."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls_running = self._gauge("calls_running", "Calls with an open media stream")
        self.gpu_reachable = self._gauge("gpu_host_reachable", "1 if the GPU host answers")
        self.draining = self._gauge("draining", "1 once no new calls are taken")
        self.records_waiting = self._gauge("records_waiting", "Notes not yet in the database")
        self.records_dropped = self._gauge("records_dropped", "Notes that were never written")
        self.loop_lag_s = self._histogram(
            "loop_lag_seconds", "How late the event loop wakes up", LAG_BUCKETS_S
        )
        self._calls = self._counter("calls", "Calls that ended", "reason")
        self._turned_away = self._counter("calls_turned_away", "Calls not taken", "reason")
        self._sockets = self._counter("sockets_refused", "Media sockets refused", "reason")
        self._webhooks = self._counter("webhooks_refused", "Webhooks refused", "reason")
        self._protocol = self._counter("protocol_errors", "Messages not understood", "word")
        self._events = self._counter("call_events", "What happened in calls", "event")
        self._underruns = self._counter("underruns", "Gaps in the bot's speech", "cause")
        self._turns = self._counter("turns", "Things the bot said", "interrupted")
        self._duration_s = self._histogram(
            "call_duration_seconds", "Length of calls", DURATION_BUCKETS_S
        )
        self._latency_s = self._histogram(
            "reply_latency_seconds",
            "End of the caller's speech to the first sound of the reply",
            LATENCY_BUCKETS_S,
        )

    def render(self) -> bytes:
        """The registry as Prometheus reads it."""
        return generate_latest(self.registry)

    # --- the line

    def call_ended(self, result: CallResult) -> None:
        """A call is over, for whatever reason."""
        self._calls.labels(result.reason.value).inc()
        self._duration_s.observe(result.duration_ms / 1000)
        self._underruns.labels("line").inc(result.n_underruns)
        self._underruns.labels("model").inc(result.n_starved)

    def call_turned_away(self, reason: str) -> None:
        """A call was answered with a busy tone or an apology."""
        self._turned_away.labels(reason).inc()

    def socket_refused(self, reason: str) -> None:
        """A media socket was not let in."""
        self._sockets.labels(reason).inc()

    def webhook_refused(self, reason: str) -> None:
        """A webhook was not from Twilio, or not readable."""
        self._webhooks.labels(reason).inc()

    def protocol_error(self, word: str) -> None:
        """A message on a media socket broke the protocol."""
        self._protocol.labels(word).inc()

    # --- pipelines.call.plan.CallObserver

    def on_turn(self, turn: TurnRecord) -> None:
        """The bot has said something."""
        self._turns.labels("yes" if turn.interrupted else "no").inc()
        if turn.reply_latency_ms is not None:
            self._latency_s.observe(turn.reply_latency_ms / 1000)

    def on_first_sound(self) -> None:
        """Not counted."""

    def on_transcript(self, turn: int, text: str) -> None:
        """Not counted."""

    def on_told(self, turn: int, name: str, value: str) -> None:
        """Not counted."""

    def on_mailbox_ready(self) -> None:
        """Not counted."""

    def count(self, name: str) -> None:
        """Something happened in a call."""
        self._events.labels(name).inc()

    def _counter(self, name: str, text: str, label: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, [label], registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", text, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", text, buckets=buckets, registry=self.registry)


async def watch_loop_lag(metrics: Metrics) -> None:
    """Measure, until cancelled, how much later than asked the event loop wakes a sleeper."""
    while True:
        asleep_s = time.perf_counter()
        await asyncio.sleep(LAG_INTERVAL_S)
        metrics.loop_lag_s.observe(max(time.perf_counter() - asleep_s - LAG_INTERVAL_S, 0.0))
