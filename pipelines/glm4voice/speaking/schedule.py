"""When to decode the next block of a reply, and how long a block to make.

Long blocks cost less per token, since each is computed together with the history before it; short
ones sound earlier. So the first block is as short as the encoder's own, unless a crowd of replies
would have it heard out before there is a second. The following ones grow as far as the sound that
is made but not yet heard leaves time for. Pure functions of given numbers.
"""

import math
from dataclasses import dataclass, replace

_LEAST_NEWS = 0.5  # weight of the latest measurement
_CROWD_RESERVE_MS = 250.0  # of the first block, for what a crowd does besides
_MOST_FIRST_UNITS = 3  # nobody waits longer than for that much, whatever comes after it


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSizes:
    """In tokens: blocks are multiples of `unit`, at most `longest`, and follow on `n_history`.

    Of the sound that is made and not yet heard, `reserve_ms` are left for delays on the way. The
    end of a block, `n_kept_back` tokens, is given out with the next one.
    """

    n_history: int
    unit: int
    longest: int
    n_kept_back: int = 0
    reserve_ms: float = 500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast replies come, as measured so far.

    `token_ms` is the work for one audio token, that for text between included; `decode_ms` is the
    work of decoding, for each token computed, those of the history too. 0 is not known.
    """

    token_ms: float = 0.0
    decode_ms: float = 0.0

    def thought(self, n_tokens: int, elapsed_ms: float) -> "Pace":
        """With a new measurement: `n_tokens` audio tokens were `elapsed_ms` of work."""
        return replace(self, token_ms=_mixed(self.token_ms, elapsed_ms / n_tokens))

    def decoded(self, n_tokens: int, work_ms: float) -> "Pace":
        """With a new measurement: decoding `n_tokens`, with history, was so much work."""
        return replace(self, decode_ms=_mixed(self.decode_ms, work_ms / n_tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rush:
    """What other replies need, for one that is to have a block decoded.

    They can spare the decoder for `spare_ms`. For one that has no sound yet: the work of
    `n_between` of them comes between its first two blocks. `is_urgent`: one of them falls silent if
    it goes first now.
    """

    n_between: int
    is_urgent: bool
    spare_ms: float = math.inf


CALM = Rush(n_between=0, is_urgent=False)


def block_due(
    n_waiting: int,
    *,
    n_decoded: int,
    buffered_ms: float,
    pace: Pace,
    token_sound_ms: float,
    sizes: BlockSizes,
    rush: Rush = CALM,
) -> int:
    """How many of the `n_waiting` tokens to decode now; 0 means to wait for more.

    `n_decoded` tokens were decoded before, `buffered_ms` of their sound is yet to be heard, and a
    token is `token_sound_ms` of sound. The first block waits for nothing but a `rush`. A later one
    waits while a longer one would still come in time; since it is decided anew with each token,
    what is waiting by then can always be decoded in time. But no block is shorter than the device
    can sustain: if one takes longer than it sounds, each would come later than the one before. A
    device that cannot keep up at all works in the longest blocks, which are the cheapest. And none
    is longer than the others can spare the decoder: what is due beyond that follows in turn.
    """
    n_full = min(n_waiting // sizes.unit * sizes.unit, sizes.longest)
    if n_decoded == 0:
        n_first = _first_block(rush, pace, token_sound_ms, sizes)
        return n_first if n_full >= n_first else 0
    n_history = min(n_decoded, sizes.n_history)
    if n_full in (0, sizes.longest):
        return min(n_full, _spared(rush, n_history, pace, sizes))

    def ready_ms(n_tokens: int, n_missing: int) -> float:
        return n_missing * pace.token_ms + (n_history + n_tokens) * pace.decode_ms

    n_longer = n_full + sizes.unit
    if ready_ms(n_longer, n_longer - n_waiting) <= buffered_ms - sizes.reserve_ms:
        return 0
    n_sustained = next(
        (
            n_tokens
            for n_tokens in range(sizes.unit, sizes.longest, sizes.unit)
            if ready_ms(n_tokens, n_tokens) <= n_tokens * token_sound_ms
        ),
        sizes.longest,
    )
    return min(n_full, _spared(rush, n_history, pace, sizes)) if n_full >= n_sustained else 0


def _spared(rush: Rush, n_history: int, pace: Pace, sizes: BlockSizes) -> int:
    """Tokens of the longest block that is decoded in the time others can spare; at least a unit."""
    if math.isinf(rush.spare_ms) or not pace.decode_ms:
        return sizes.longest
    n_computed = int(max(0.0, rush.spare_ms) / pace.decode_ms)
    return max(sizes.unit, (n_computed - n_history) // sizes.unit * sizes.unit)


def _first_block(rush: Rush, pace: Pace, token_sound_ms: float, sizes: BlockSizes) -> int:
    """Tokens of a first block that is not heard to its end before the second has come.

    Alone, a reply begins with the shortest there is, for nobody hears anything before.
    """
    if rush.is_urgent:
        return _MOST_FIRST_UNITS * sizes.unit
    if not rush.n_between:
        return sizes.unit
    own_ms = sizes.unit * pace.token_ms + (sizes.n_history + sizes.unit) * pace.decode_ms
    second_ms = (1 + rush.n_between) * own_ms + _CROWD_RESERVE_MS
    n_heard = math.ceil(second_ms / token_sound_ms) + sizes.n_kept_back
    return min(math.ceil(n_heard / sizes.unit), _MOST_FIRST_UNITS) * sizes.unit


class SoundAhead:
    """How much of a reply's sound is made and not yet heard, if it is heard without delay."""

    def __init__(self) -> None:
        self._heard_at_s = -math.inf  # when all that is made will have been heard

    def add(self, sound_ms: float, *, now_s: float) -> None:
        """`sound_ms` more are made. If all was heard before, there was a gap."""
        self._heard_at_s = max(self._heard_at_s, now_s) + sound_ms / 1000

    @property
    def dry_at_s(self) -> float:
        """When the listener will have heard all that is made; minus infinity before the first."""
        return self._heard_at_s

    def buffered_ms(self, now_s: float) -> float:
        """What is still to be heard."""
        return max(0.0, (self._heard_at_s - now_s) * 1000)


def _mixed(known: float, latest: float) -> float:
    return latest if known == 0 else known + _LEAST_NEWS * (latest - known)
