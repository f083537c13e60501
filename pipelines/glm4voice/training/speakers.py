"""More speakers than there are voices: the same sentence, played a little faster or slower.

Rate, pitch and formants move together, as in a shorter or longer throat (speed perturbation: Ko et
al. 2015). It costs a resampling.
"""

import math

import numpy as np
from scipy import signal

from pipelines.audio import Pcm

_STEPS = 40  # of the ratio: small numbers keep the resampling cheap


def as_another(pcm: Pcm, rng: np.random.Generator, spread: float) -> Pcm:
    """`pcm`, float32 [T], at a speed that is drawn from 1 / (1 + spread) to 1 + spread.

    Fast and slow are drawn alike. Raises ValueError for a spread outside 0 to 0.5.
    """
    if not 0 <= spread <= 0.5:
        raise ValueError(f"spread must be 0 to 0.5, not {spread}")
    speed = math.exp(rng.uniform(-1, 1) * math.log1p(spread))
    n_in = round(speed * _STEPS)
    if n_in == _STEPS:
        return pcm
    played: Pcm = signal.resample_poly(pcm, _STEPS, n_in).astype(np.float32)
    return played
