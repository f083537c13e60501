"""How far the places where blocks of a reply meet can be told from all others, in numbers.

A seam is looked at where two blocks of sound meet and where the mel of one block begins to be faded
into that of the next; each time beside places inside of blocks of the same replies. All places lie
on the grid of mel frames, as seams do: the sound of a vocoder is not alike at all samples of a
frame.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipelines.glm4voice.measuring.decoder import blocks_of, parts_of
from pipelines.glm4voice.speaking.decoder import SpeechDecoder
from pipelines.glm4voice.speaking.stream import StreamingDecoder

Samples = NDArray[np.float32]

CHANCE = 0.05  # of calling a measure distinguishable that is not, over all measures
_EDGE_FRAMES = 3  # at least so far from a seam a place is inside
_APART_FRAMES = 2  # at least so far from each other are places inside, or else they share sound
_FLOOR = 1e-4  # added to magnitudes: what is below is not heard


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """A reply made in blocks: sound [S] and mel [M, T], and where its blocks meet.

    `cuts` are frames at which blocks of sound meet, `fades` those at which the mel of a block
    begins to be faded into the next, over `n_faded` frames.
    """

    pcm: Samples
    mel: Samples
    cuts: list[int]
    fades: list[int]
    n_faded: int

    @property
    def per_frame(self) -> int:
        """Samples of a frame."""
        return len(self.pcm) // self.mel.shape[1]


def streamed_reply(
    decoder: StreamingDecoder, ids: Sequence[int], sizes: Sequence[int], *, seed: int
) -> Spoken:
    """`ids` in blocks of these sizes.

    Replies to be compared need seeds of their own: noise belongs to its frame, so that with one
    seed all seams of one place would meet the same noise.
    """
    pcms, mels = [], []
    for block in blocks_of(ids, sizes, decoder.start(seed=seed)):
        mel = decoder.advance([block])
        pcms.append(decoder.speak(mel, [block])[0].cpu().numpy())
        mels.append(mel[0][0].cpu().numpy())
    per_frame = decoder.config.hift.samples_per_frame
    return Spoken(
        pcm=np.concatenate(pcms),
        mel=np.concatenate(mels, axis=1),
        cuts=_ends([len(pcm) // per_frame for pcm in pcms]),
        fades=_ends([mel.shape[1] for mel in mels]),
        n_faded=decoder.mel.n_overlap_frames,
    )


def official_reply(
    decoder: SpeechDecoder, ids: Sequence[int], sizes: Sequence[int], *, seed: int
) -> Spoken:
    """`ids` in blocks of these sizes, as the original streams them.

    The last frame of a block is heard at the start of the next, and after it the fade begins.
    """
    state, pcms, mels = decoder.start(seed=seed), [], []
    for part, final in parts_of(ids, sizes):
        block = decoder.decode_block(list(part), state, final=final)
        pcms.append(block.pcm.cpu().numpy())
        mel = block.mel[0].cpu().numpy()
        mels.append(mel if final else mel[:, :-1])
    cuts = _ends([mel.shape[1] for mel in mels])
    return Spoken(
        pcm=np.concatenate(pcms),
        mel=np.concatenate(mels, axis=1),
        cuts=cuts,
        fades=[cut + 1 for cut in cuts],
        n_faded=decoder.n_overlap_frames,
    )


def _ends(sizes: Sequence[int]) -> list[int]:
    """Where blocks that are not empty meet."""
    return list(accumulate(size for size in sizes if size))[:-1]


def bend(reply: Spoken, frame: int) -> float:
    """The largest second difference across the start of `frame`, to its RMS in a frame around."""
    place, around = frame * reply.per_frame, reply.per_frame // 2
    bends = np.abs(np.diff(reply.pcm[place - around - 1 : place + around + 1], 2))
    # the second difference at i spans samples i to i + 2: two of them lie across the place
    return float(bends[around - 1 : around + 1].max() / np.sqrt(np.mean(bends**2)))


def jump(reply: Spoken, frame: int) -> float:
    """The distance in dB (RMS over bins) of the short-time spectra before and after `frame` starts.

    Each is of as many samples as a frame has.
    """
    place, size = frame * reply.per_frame, reply.per_frame
    before, after = (_level_db(reply.pcm[at : at + size]) for at in (place - size, place))
    return float(np.sqrt(np.mean((after - before) ** 2)))


def _level_db(pcm: Samples) -> NDArray[np.float64]:
    return 20 * np.log10(np.abs(np.fft.rfft(pcm * np.hanning(len(pcm)))) + _FLOOR)


def change(reply: Spoken, frame: int) -> float:
    """RMS of the mel's steps from frame to frame, over as many from `frame` on as are faded."""
    steps = np.diff(reply.mel[:, frame - 1 : frame + reply.n_faded])
    return float(np.sqrt(np.mean(steps**2)))


def spread(reply: Spoken, frame: int) -> float:
    """Standard deviation of the mel over as many frames from `frame` on as are faded.

    A fade of two mels that have little in common and whose weights sum to one makes it smaller.
    """
    return float(reply.mel[:, frame : frame + reply.n_faded].std())


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One way to look at seams: `at_fades` tells which of them."""

    name: str
    title: str
    unit: str
    at_fades: bool
    of: Callable[[Spoken, int], float]
    spans_fade: bool = False  # else it looks at one moment


MEASURES = (
    Measure(
        name="bend_at_cut",
        title="Bend of the sound where blocks meet",
        unit="second difference / its RMS nearby",
        at_fades=False,
        of=bend,
    ),
    Measure(
        name="jump_at_cut",
        title="Spectral jump where blocks meet",
        unit="dB, 12 ms before against 12 ms after",
        at_fades=False,
        of=jump,
    ),
    Measure(
        name="bend_at_fade",
        title="Bend of the sound where a fade begins",
        unit="second difference / its RMS nearby",
        at_fades=True,
        of=bend,
    ),
    Measure(
        name="jump_at_fade",
        title="Spectral jump where a fade begins",
        unit="dB, 12 ms before against 12 ms after",
        at_fades=True,
        of=jump,
    ),
    Measure(
        name="change_in_fade",
        title="Change of the mel in a fade",
        unit="RMS step from frame to frame, natural log",
        at_fades=True,
        of=change,
        spans_fade=True,
    ),
    Measure(
        name="spread_in_fade",
        title="Spread of the mel in a fade",
        unit="standard deviation, natural log",
        at_fades=True,
        of=spread,
        spans_fade=True,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A measure at seams and at places inside."""

    measure: Measure
    at_seams: NDArray[np.float64]
    inside: NDArray[np.float64]

    @property
    def share_above(self) -> float:
        """Of the seams, those above 95 of 100 places inside: 0.05 if they are like all others."""
        return float(np.mean(self.at_seams > np.quantile(self.inside, 0.95)))

    @property
    def chance_higher(self) -> float:
        """That a seam is above a place inside: 0.5 if they are like all others."""
        statistic = stats.mannwhitneyu(self.at_seams, self.inside).statistic
        return float(statistic / (len(self.at_seams) * len(self.inside)))

    @property
    def p(self) -> float:
        """Of the Mann-Whitney rank test, two-sided: that chance alone makes such a difference."""
        return float(stats.mannwhitneyu(self.at_seams, self.inside).pvalue)

    @property
    def is_distinguishable(self) -> bool:
        """By the rank test, whose level is divided by the number of measures (Bonferroni)."""
        return self.p < CHANCE / len(MEASURES)


def compare(replies: Sequence[Spoken], *, seed: int = 0) -> list[Comparison]:
    """All measures, at all seams of `replies` and at places inside that `seed` decides."""
    return [_compare(measure, replies, np.random.default_rng(seed)) for measure in MEASURES]


def _compare(measure: Measure, replies: Sequence[Spoken], rng: np.random.Generator) -> Comparison:
    at_seams: list[float] = []
    inside: list[float] = []
    for reply in replies:
        look = partial(measure.of, reply)
        n_spanned = reply.n_faded if measure.spans_fade else 0
        places = rng.permutation(places_inside(reply, n_spanned)).tolist()
        at_seams += map(look, reply.fades if measure.at_fades else reply.cuts)
        inside += map(look, _apart(places, max(n_spanned, _APART_FRAMES)))
    return Comparison(measure=measure, at_seams=np.array(at_seams), inside=np.array(inside))


def _apart(places: Sequence[int], n_frames: int) -> list[int]:
    """Those of `places` that are not nearer than this to one before them: they share nothing."""
    chosen: list[int] = []
    for place in places:
        if all(abs(place - other) >= n_frames for other in chosen):
            chosen.append(place)
    return chosen


def places_inside(reply: Spoken, n_spanned: int) -> NDArray[np.int64]:
    """Frames from which `n_spanned` more are neither faded nor near a fade, nor near a cut.

    Cuts are of no account where several are spanned: that is looking at the mel.
    """
    busy = np.zeros(reply.mel.shape[1] + 1, bool)
    busy[:_EDGE_FRAMES] = busy[-_EDGE_FRAMES:] = True
    for fade in reply.fades:
        busy[max(0, fade - _EDGE_FRAMES) : fade + reply.n_faded + _EDGE_FRAMES] = True
    for cut in reply.cuts if not n_spanned else ():
        busy[max(0, cut - _EDGE_FRAMES) : cut + _EDGE_FRAMES + 1] = True
    n_before = np.concatenate([[0], np.cumsum(busy)])  # busy ones before each
    firsts = np.arange(len(busy) - n_spanned)
    return firsts[n_before[firsts + n_spanned + 1] == n_before[firsts]]
