"""G.711 mu-law between bytes and float32, for whole pieces of speech at once."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.audio import PCM16_SCALE, Pcm

_BIAS: Final = 33  # of the 14-bit code
_CLIP: Final = 8158  # with the bias, the last of the highest segment


def _decoded() -> NDArray[np.float32]:
    """[256]: the sample each code stands for."""
    code = ~np.arange(256, dtype=np.int32)
    exponent, mantissa = (code >> 4) & 7, code & 15
    magnitude = (((2 * mantissa + _BIAS) << exponent) - _BIAS) * 4
    samples = np.where(code & 128, -magnitude, magnitude)
    return (samples / PCM16_SCALE).astype(np.float32)


def _encoded() -> NDArray[np.uint8]:
    """[65536]: the code of each 16-bit sample, lowest sample first."""
    samples = np.arange(-PCM16_SCALE, PCM16_SCALE, dtype=np.int32) >> 2
    magnitude = np.minimum(np.abs(samples), _CLIP) + _BIAS
    exponent = np.frexp(magnitude)[1] - 6
    mantissa = (magnitude >> (exponent + 1)) & 15
    code = np.where(samples < 0, 128, 0) | (exponent << 4) | mantissa
    codes: NDArray[np.uint8] = (~code & 255).astype(np.uint8)
    return codes


_DECODED: Final = _decoded()
_ENCODED: Final = _encoded()


def mulaw_to_float(mulaw: bytes) -> Pcm:
    """One byte a sample to float32 [T]."""
    pcm: Pcm = _DECODED[np.frombuffer(mulaw, dtype=np.uint8)]
    return pcm


def float_to_mulaw(pcm: Pcm) -> bytes:
    """Float32 [T] to one byte a sample; louder than full scale clips."""
    samples = np.clip(np.rint(pcm * np.float32(PCM16_SCALE)), -PCM16_SCALE, PCM16_SCALE - 1)
    mulaw: bytes = _ENCODED[samples.astype(np.int32) + PCM16_SCALE].tobytes()
    return mulaw
