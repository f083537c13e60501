"""Keys and values in slots of fixed shape, so that a device computes all conversations together.

One big tensor per layer and kind holds a row, the slot, for each conversation. On CUDA a batch is
the rows from the first to the last one in use: nothing is gathered, and shapes come from a short
list, so that each is captured once as a graph and replayed with one launch. Rows that do not take
part compute something nobody reads, at a position kept for that. Elsewhere a batch is just the rows
that take part.
"""

import math
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush
from itertools import product
from typing import Any

import torch
from torch import Tensor
from transformers import GlmForCausalLM

from pipelines.glm4voice.thinking.engine import EngineError
from pipelines.glm4voice.thinking.fused_layers import Layers

SMALLEST_LENGTH = 64  # positions; lengths double from here to the model's limit
SMALLEST_GRAPH = 512  # the same where each length is captured: that takes time and memory
PARTS = (16, 64, 128, 512)  # ids of a prompt that a graph reads at once


class NoSlot(EngineError):
    """There are more conversations than slots: the host's limit of sessions is wrong.

    Of one aside: another one has its slot.
    """


class SlotKeyValues:
    """One conversation's slot, taken with its first id and given back when this is dropped."""

    def __init__(self, take: "Callable[[SlotKeyValues], int]", *, is_aside: bool = False) -> None:
        self.is_aside = is_aside
        self._take = take
        self._slot: int | None = None
        self.n_tokens = 0

    @property
    def slot(self) -> int:
        """Its row. Raises NoSlot."""
        if self._slot is None:
            self._slot = self._take(self)
        return self._slot

    def crop(self, n_kept: int) -> None:
        """Shorten to at most `n_kept` ids; what lay behind is written over later."""
        self.n_tokens = min(self.n_tokens, n_kept)


class Slots:
    """A `Compute` for a device that takes many conversations in the time of one."""

    def __init__(
        self,
        model: GlmForCausalLM,
        *,
        n_slots: int,
        n_aside: int = 0,
        gathers: bool | None = None,
    ) -> None:
        """Slots for `n_slots` calls, and for `n_aside` conversations beside them.

        `gathers`: a batch is just the rows that take part. None means: anywhere but on CUDA,
        where graphs are captured here instead, which takes some seconds.
        """
        n_rows = n_slots + n_aside
        config = model.config
        self.model = model
        self._device, dtype = model.device, model.dtype
        self.vocab_size: int = config.vocab_size
        self.max_positions: int = config.max_position_embeddings
        self.max_batch = n_rows
        shape = _shape(model, n_rows)
        self.layers = [
            (
                torch.zeros(shape, device=self._device, dtype=dtype),
                torch.zeros(shape, device=self._device, dtype=dtype),
            )
            for _ in range(config.num_hidden_layers)
        ]
        # heaps; those aside come first, since a batch may be all rows up to its last
        self._free_aside, self._free = list(range(n_aside)), list(range(n_aside, n_rows))
        captures = self._device.type == "cuda" and not gathers
        self._gathers = self._device.type != "cuda" if gathers is None else gathers
        smallest = SMALLEST_GRAPH if captures else SMALLEST_LENGTH
        self._lengths = _doublings(smallest, self.max_positions)
        self._batches = _doublings(1, n_rows)
        self._compute = Layers(model)
        self._graphs: dict[tuple[int, int], _Graph] = {}
        self._part_graphs: dict[tuple[int, int], _Graph] = {}
        if captures:
            self._capture()

    def new(self, *, is_aside: bool = False) -> SlotKeyValues:
        """See Compute."""
        return SlotKeyValues(self._take, is_aside=is_aside)

    def extend(self, key_values: SlotKeyValues, ids: Sequence[int]) -> Tensor:
        """See Compute."""
        slot, start = key_values.slot, key_values.n_tokens
        end = start + len(ids)
        if not self._gathers and len(ids) <= PARTS[-1]:
            key_values.n_tokens = end
            return self._extend_part(slot, start, ids)
        view = _OneSlot(self.layers, slot, start, end)
        positions = torch.arange(start, end, device=self._device)
        visible = torch.arange(end, device=self._device) <= positions[:, None]
        logits = self._compute(
            torch.tensor([list(ids)], device=self._device),
            view,
            positions=positions[None],
            visible=visible[None],
        )
        key_values.n_tokens = end
        return logits[0]

    def _extend_part(self, slot: int, start: int, ids: Sequence[int]) -> Tensor:
        """Ids of one slot, filled up to a size that has a graph; logits after the last, [V]."""
        n_ids, end = _at_least(len(ids), PARTS), start + len(ids)
        length = _at_least(end, self._lengths)
        filled = torch.zeros(1, n_ids, dtype=torch.long)
        positions, places = torch.zeros(n_ids).long(), torch.full((n_ids,), self.max_positions)
        filled[0, : len(ids)] = torch.tensor(ids)
        positions[: len(ids)] = places[: len(ids)] = torch.arange(start, end)
        one, last = torch.tensor([slot]), torch.tensor([len(ids) - 1])
        graph = self._part_graphs.get((n_ids, length))
        run = partial(self._part, length=length)
        return self._run(graph, run, filled, positions, places, one, last)[0].clone()

    def _part(
        self,
        ids: Tensor,
        positions: Tensor,
        places: Tensor,
        slot: Tensor,
        last: Tensor,
        *,
        length: int,
    ) -> Tensor:
        """Ids [1, T] of a slot [1] at positions [T], written at places [T]: logits [1, V]."""
        visible = torch.arange(length, device=self._device) <= positions[:, None]
        view = _PartOfSlot(self.layers, slot, places, length)
        return self._compute(ids, view, positions=positions[None], visible=visible[None], last=last)

    def extend_all(self, key_values: Sequence[SlotKeyValues], tokens: Sequence[int]) -> Tensor:
        """See Compute."""
        if not key_values:
            return torch.empty(0, self.vocab_size, device=self._device)
        length = max(one.n_tokens for one in key_values) + 1
        length = _at_least(length, self._lengths)
        extend = self._extend_rows if self._gathers else self._extend_first_rows
        logits = extend(key_values, tokens, length)
        for one in key_values:
            one.n_tokens += 1
        return logits

    def _extend_rows(
        self, key_values: Sequence[SlotKeyValues], tokens: Sequence[int], length: int
    ) -> Tensor:
        """The rows that take part, and no others."""
        rows = torch.tensor([one.slot for one in key_values], device=self._device)
        places = torch.tensor([one.n_tokens for one in key_values], device=self._device)
        ids = torch.tensor(tokens, device=self._device)[:, None]
        view = _ManySlots(self.layers, rows, places, length, shown=rows)
        return self._look_back(ids, places, view, length)

    def _extend_first_rows(
        self, key_values: Sequence[SlotKeyValues], tokens: Sequence[int], length: int
    ) -> Tensor:
        """All rows up to the last that takes part, by a graph if it was captured."""
        slots = [one.slot for one in key_values]
        n_rows = _at_least(max(slots) + 1, self._batches)
        ids, positions = torch.zeros(n_rows, 1, dtype=torch.long), torch.zeros(n_rows).long()
        places = torch.full((n_rows,), self.max_positions)
        for one, slot, token in zip(key_values, slots, tokens, strict=True):
            ids[slot, 0], positions[slot], places[slot] = token, one.n_tokens, one.n_tokens
        graph = self._graphs.get((n_rows, length))
        logits = self._run(graph, partial(self._step, length=length), ids, positions, places)
        if slots == list(range(n_rows)):
            return logits
        return logits[torch.tensor(slots, device=self._device)]

    def _run(self, graph: "_Graph | None", run: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """What `run` returns of inputs on the CPU: by its graph if it was captured."""
        if graph is not None:
            return graph.replay(*inputs)
        return run(*(part.to(self._device) for part in inputs))

    def _step(self, ids: Tensor, positions: Tensor, places: Tensor, *, length: int) -> Tensor:
        """One id for each of the first rows; all shapes follow from those given and `length`.

        ids [B, 1]; positions [B]: where it stands; places [B]: where it is written. Logits [B, V].
        """
        n_rows = len(places)
        rows = torch.arange(n_rows, device=places.device)
        view = _ManySlots(self.layers, rows, places, length, shown=slice(n_rows))
        return self._look_back(ids, positions, view, length)

    def _look_back(self, ids: Tensor, positions: Tensor, view: Any, length: int) -> Tensor:
        """Logits [B, V] after ids [B, 1] at `positions` [B] of the rows that `view` shows."""
        visible = torch.arange(length, device=self._device) <= positions[:, None]
        return self._compute(ids, view, positions=positions[:, None], visible=visible[:, None])

    def _take(self, owner: SlotKeyValues) -> int:
        """The lowest free slot, so that batches have few rows."""
        free = self._free_aside if owner.is_aside else self._free
        if not free:
            raise NoSlot("all slots for calls are taken" if free is self._free else "one is aside")
        slot = heappop(free)
        weakref.finalize(owner, heappush, free, slot)
        return slot

    @torch.inference_mode()
    def _capture(self) -> None:
        """Capture a graph of every shape a batch or a part of a prompt can have.

        The largest of each come first: all share memory, and so a stream.
        """
        pool, stream = None, torch.cuda.Stream(self._device)
        lengths = self._lengths[::-1]
        for n_ids, length in product(PARTS[::-1], lengths):
            places = torch.full((n_ids,), self.max_positions)
            ids, positions = torch.zeros(1, n_ids, dtype=torch.long), torch.zeros(n_ids).long()
            inputs = [ids, positions, places, torch.zeros(1).long(), torch.zeros(1).long()]
            graph = _Graph(partial(self._part, length=length), inputs, stream, pool)
            self._part_graphs[n_ids, length], pool = graph, graph.pool
        for n_rows, length in product(self._batches[::-1], lengths):
            places = torch.full((n_rows,), self.max_positions)
            inputs = [torch.zeros(n_rows, 1).long(), torch.zeros(n_rows).long(), places]
            graph = _Graph(partial(self._step, length=length), inputs, stream, pool)
            self._graphs[n_rows, length], pool = graph, graph.pool


def slots_bytes(model: GlmForCausalLM, *, n_slots: int) -> int:
    """The memory that the slots of a model take."""
    n_layers: int = model.config.num_hidden_layers
    return 2 * n_layers * math.prod(_shape(model, n_slots)) * model.dtype.itemsize


def _shape(model: GlmForCausalLM, n_slots: int) -> tuple[int, int, int, int]:
    """Of one layer's keys or values: [S, H, P + 1, D]."""
    config = model.config
    n_heads, head_dim = int(config.num_key_value_heads or 0), int(config.head_dim or 0)
    # one position more, for what is written of rows that do not take part
    return n_slots, n_heads, config.max_position_embeddings + 1, head_dim


class _OneSlot:
    """What the layers see of one slot while several ids are written to it."""

    def __init__(
        self, layers: Sequence[tuple[Tensor, Tensor]], slot: int, start: int, end: int
    ) -> None:
        self._layers, self._slot, self._start, self._end = layers, slot, start, end

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write keys and values [1, H, T, D]; return all up to there, [1, H, L, D]."""
        row, span = slice(self._slot, self._slot + 1), slice(self._start, self._end)
        for stored, new in zip(self._layers[layer], (keys, values), strict=True):
            stored[row, :, span] = new
        all_keys, all_values = self._layers[layer]
        return all_keys[row, :, : self._end], all_values[row, :, : self._end]


class _ManySlots:
    """What the layers see of several slots while one id is written to each."""

    def __init__(
        self,
        layers: Sequence[tuple[Tensor, Tensor]],
        rows: Tensor,
        places: Tensor,
        length: int,
        *,
        shown: Tensor | slice,
    ) -> None:
        """`shown` are the same rows, as what indexes them best: a slice is not copied."""
        self._layers, self._rows, self._places = layers, rows, places
        self._shown, self._length = shown, length

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write keys and values [B, H, 1, D]; return as many as can matter, [B, H, L, D]."""
        for stored, new in zip(self._layers[layer], (keys, values), strict=True):
            stored[self._rows, :, self._places] = new[:, :, 0]
        all_keys, all_values = self._layers[layer]
        return (
            all_keys[self._shown, :, : self._length],
            all_values[self._shown, :, : self._length],
        )


class _PartOfSlot:
    """What the layers see of one slot, named by a tensor [1], while ids are written to it."""

    def __init__(
        self, layers: Sequence[tuple[Tensor, Tensor]], slot: Tensor, places: Tensor, length: int
    ) -> None:
        self._layers, self._slot, self._places, self._length = layers, slot, places, length

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write keys and values [1, H, T, D]; return as many as can matter, [1, H, L, D]."""
        for stored, new in zip(self._layers[layer], (keys, values), strict=True):
            stored[self._slot, :, self._places] = new[0].transpose(0, 1)
        all_keys, all_values = self._layers[layer]
        return (
            all_keys[:, :, : self._length].index_select(0, self._slot),
            all_values[:, :, : self._length].index_select(0, self._slot),
        )


class _Graph:
    """One captured step. Its inputs and what it returns lie where they were captured."""

    def __init__(
        self,
        step: Callable[..., Tensor],
        inputs: Sequence[Tensor],
        stream: torch.cuda.Stream,
        pool: Any,
    ) -> None:
        """`inputs` are whole numbers on the CPU, of the shapes to come and harmless.

        It is captured on `stream`, and so on its device, whichever the current one is.
        """
        device = stream.device
        self._packed = _packed(inputs).to(device)  # one copy to the device is made, not several
        parts = self._packed.split([one.numel() for one in inputs])
        self._inputs = [part.view_as(one) for part, one in zip(parts, inputs, strict=True)]
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):  # libraries set themselves up in the first run
            step(*self._inputs)
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device), torch.cuda.graph(self._graph, pool=pool, stream=stream):
            self._logits = step(*self._inputs)
        self.pool = self._graph.pool()

    def replay(self, *inputs: Tensor) -> Tensor:
        """What the step returns of these; it holds until the next replay."""
        self._packed.copy_(_packed(inputs))
        self._graph.replay()
        return self._logits


def _packed(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def _doublings(first: int, last: int) -> list[int]:
    """first, twice that and so on, and `last` in any case."""
    sizes = []
    while first < last:
        sizes.append(first)
        first *= 2
    return [*sizes, last]


def _at_least(size: int, sizes: Sequence[int]) -> int:
    """The smallest of rising `sizes` that is not below `size`."""
    return next(one for one in sizes if one >= size)
