"""Windows of a few lengths: they hold what a block needs, and no frame is of a wrong token."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.glm4voice.speaking.config import DecoderConfig
from pipelines.glm4voice.speaking.released import RELEASED
from pipelines.glm4voice.speaking.windows import Cutting

CONFIG: DecoderConfig = RELEASED
CUTTING = Cutting(CONFIG, n_history_tokens=10, n_encoder_tokens=100, n_overlap_frames=20)
LENGTHS = CUTTING.lengths(range(10, 61, 10))


@given(
    n_blocks=st.integers(0, 200),
    n_new=st.integers(1, 60),
    is_final=st.booleans(),
)
def test_a_fitted_window_holds_what_a_block_needs(
    n_blocks: int, n_new: int, is_final: bool
) -> None:
    """It has one of the lengths, all new frames, enough known ones, and each frame's own token."""
    n_before = 10 * n_blocks
    n_new = n_new if is_final else max(10, n_new // 10 * 10)
    n_tokens, n_known = n_before + n_new, CUTTING.n_final(n_before)

    window = CUTTING.fitted(n_before, n_tokens, LENGTHS, final=is_final)

    if window is None:  # an end too soon for a history
        assert is_final
        assert n_before <= 10
        return
    assert window.last - window.first in LENGTHS
    needed = CONFIG.n_frames(n_tokens) if is_final else CUTTING.n_final(n_tokens)
    assert needed <= window.last <= CONFIG.n_frames(n_tokens) + is_final
    exact = CUTTING.window(n_before, n_tokens)
    assert max(0, n_known - CUTTING.n_kept) <= window.first <= exact.first + 4
    token_of = CUTTING.token_of(window) + window.n_first
    ratio = CONFIG.frames_per_token
    for frame in (window.first, (window.first + window.last) // 2, needed - 1):
        assert token_of[frame - window.first] == min(int(frame / ratio), n_tokens - 1)


def test_equal_lengths_have_equally_many_tokens() -> None:
    """So that windows from anywhere in a reply can be stacked."""
    windows = [
        CUTTING.fitted(n_before, n_before + n_new, LENGTHS, final=False)
        for n_before in (0, 10, 20, 130, 570)
        for n_new in range(10, 61, 10)
    ]

    sizes = {window.size for window in windows if window is not None}

    assert None not in windows
    assert len(sizes) == len({n_frames for _, n_frames in sizes}) <= len(LENGTHS)
