"""The decoder by itself: answers of the corpus, made again from what stands between two stages.

copy       the vocoder's sound, from the mel of the original
whole      that of flow and vocoder, from all speech codes at once
streamed   the same in blocks, each as long as the first of a reply
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pipelines.audio import Pcm
from pipelines.glm4voice.chain import GlmChain
from pipelines.glm4voice.speaking.stream import StreamBlock, StreamingDecoder
from pipelines.glm4voice.training.answer_sounds import HOP, log_mel, mel_distance, whole_frames
from pipelines.glm4voice.training.corpus import Corpus, Utterance
from pipelines.glm4voice.training.hearing_batches import answer_at_16k
from pipelines.glm4voice.training.settings.evaluate import WAYS

_FIRST_TOKENS = 10


def made_again(chain: GlmChain, corpus: Corpus, answer: Utterance) -> Mapping[str, Pcm]:
    """An answer as each of the settings' WAYS has it: float32 [T] at the chain's output rate."""
    decoder = chain.parts.decoding.decoder
    [ids] = chain.parts.speech_tokenizer.encode_batch([answer_at_16k(corpus, answer)])
    firsts = [ids[n : n + _FIRST_TOKENS] for n in range(0, len(ids), _FIRST_TOKENS)]
    copy = _vocoded(decoder, log_mel(whole_frames(corpus, answer)[None]))
    sounds = (copy, _spoken(decoder, [ids]), _spoken(decoder, firsts))
    return dict(zip(WAYS, sounds, strict=True))


def distance_from(corpus: Corpus, answer: Utterance, pcm: Pcm) -> float:
    """How far the mel of `pcm` is from that of the original, in nepers, while both last.

    NaN where that is less than a frame.
    """
    original = whole_frames(corpus, answer)
    n_samples = min(len(pcm), len(original)) // HOP * HOP
    if not n_samples:
        return float("nan")
    made = log_mel(torch.from_numpy(pcm[None, :n_samples]))
    return mel_distance(made[0], log_mel(original[None, :n_samples])[0])


@torch.inference_mode()
def _vocoded(decoder: StreamingDecoder, mel: Tensor) -> Pcm:
    end = StreamBlock([], decoder.start(), final=True)
    [pcm] = decoder.speak([mel.to(decoder.device)], [end])
    found: Pcm = pcm.cpu().numpy()
    return found


def _spoken(decoder: StreamingDecoder, blocks: Sequence[Sequence[int]]) -> Pcm:
    state = decoder.start()
    parts = [torch.from_numpy(decoder.decode(ids, state, final=False)) for ids in blocks]
    parts.append(torch.from_numpy(decoder.decode([], state, final=True)))
    found: Pcm = torch.cat(parts).numpy()
    return found
