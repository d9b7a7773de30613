"""Token streams over the store: what tasks and repairs read. Re-iterable, larger than memory, mapped by repairs on the way."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from vitbench.backbones.base import Backbone
from vitbench.catalogue.views import View
from vitbench.data.load import load
from vitbench.engine.workspace import state_path
from vitbench.errors import DataError
from vitbench.jobs import SplitRef
from vitbench.repairs.base import Repair, State
from vitbench.tasks.base import Batch
from vitbench.tokens.store import StoredTokens
from vitbench.tokens.types import Tokens

if TYPE_CHECKING:
    from vitbench.engine.jobs import Workbench

MEMO_BYTES = 192 << 20
DECODERS, LOOKAHEAD = 8, 16  # threads that decode files, and samples they are ahead of the model
NAMED = 20  # corrupt files that are listed one by one


class Samples:
    """Random access to a split by key, with a memo so that rendered or decoded targets are made once per process."""

    def __init__(self, ref: SplitRef, root: Any) -> None:
        self._dataset = load(
            ref.dataset,
            ref.split,
            targets=ref.targets,
            limit=ref.limit,
            seed=ref.seed,
            root=root,
            least_px=ref.least_px,
        )
        self._skip_corrupt = ref.skip_corrupt
        keys = self._dataset.with_format(None)["key"] if len(self._dataset) else []
        self.keys = list(keys)
        self._index = {key: i for i, key in enumerate(self.keys)}
        self._memo: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.keys)

    def get(self, key: str) -> dict[str, Any]:
        """The sample of a key (`key#window` gives that of `key`). Several threads may ask; they decode side by side."""
        key = key.partition("#")[0]
        found = self._memo.get(key)
        if found is None:
            found = dict(self._dataset[self._index[key]])
            with self._lock:
                if key not in self._memo:
                    self._bytes += _nbytes(found)
                    self._memo[key] = found
                while self._bytes > MEMO_BYTES and len(self._memo) > 1:
                    self._bytes -= _nbytes(self._memo.popitem(last=False)[1])
        return found

    def images(self) -> Iterator[tuple[str, Any]]:
        """Keys and images in order. Raises DataError naming all that cannot be read, or leaves them out if told to."""
        broken: list[str] = []
        for key, sample in self._ahead():
            try:
                image = sample()["image"]
            except DataError as error:
                broken.append(error.message)
                continue
            if self._skip_corrupt or not broken:
                yield key, image
        if broken and not (self._skip_corrupt and len(broken) < len(self.keys)):
            more = f"; and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
            raise DataError(
                f"{len(broken)} of {len(self.keys)} images cannot be used: {'; '.join(broken[:NAMED])}{more}",
                "replace them, or leave them out with --skip-corrupt",
            )

    def _ahead(self) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
        """Keys in order, each with what gives its sample; files are decoded by several threads, a few samples ahead."""
        if (
            "image" not in self._dataset.column_names
        ):  # rendered: that is Python, where threads only wait for each other
            yield from ((key, partial(self.get, key)) for key in self.keys)
            return
        pool = ThreadPoolExecutor(min(DECODERS, len(os.sched_getaffinity(0))))
        waiting: deque[tuple[str, Future[dict[str, Any]]]] = deque()
        try:
            for key in self.keys:
                waiting.append((key, pool.submit(self.get, key)))
                if len(waiting) > LOOKAHEAD:
                    name, future = waiting.popleft()
                    yield name, future.result
            yield from ((name, future.result) for name, future in waiting)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _nbytes(sample: Mapping[str, Any]) -> int:
    return sum(v.nbytes for v in sample.values() if isinstance(v, np.ndarray))


def as_float(tokens: Tokens, device: torch.device) -> Tokens:
    """Float fields in float32 on a device; pixels and flags as they are."""
    fields = {
        name: value.to(device, torch.float32 if value.is_floating_point() else value.dtype)
        for name, value in tokens.fields.items()
    }
    return Tokens(fields, tokens.geometry, tokens.keys)


class MappedStream:
    """A split's stored tokens with repairs applied, and targets beside them."""

    def __init__(
        self, split: str, stored: StoredTokens, samples: Samples, targets: Sequence[str],
        maps: Sequence[tuple[Repair[Any], Mapping[str, State]]], device: torch.device,
    ) -> None:  # fmt: skip
        self.split, self._stored, self._samples = split, stored, samples
        self._targets, self._maps, self._device = tuple(targets), maps, device

    @property
    def keys(self) -> tuple[str, ...]:
        return self._stored.keys

    def __len__(self) -> int:
        return len(self._stored)

    def __iter__(self) -> Iterator[Batch]:
        for chunk in self._stored:
            tokens = as_float(chunk, self._device)
            for repair, states in self._maps:
                tokens = repair.map(tokens, states)
            yield Batch(tokens, [self._target(key, i, tokens) for i, key in enumerate(tokens.keys)])

    def _target(self, key: str, i: int, tokens: Tokens) -> dict[str, Any]:
        hw = tokens.geometry.placements[i].source_hw
        if not self._targets:
            return {"image_hw": hw}
        sample = self._samples.get(key)
        # What belongs to a target travels with it: `boxes_track` with `boxes`.
        names = [n for n in sample if n in self._targets or n.rpartition("_")[0] in self._targets]
        return {"image_hw": hw, **{name: sample[name] for name in names}}


class StoreFitContext:
    """What a repair is fitted on: the stored train tokens of one field (and what it needs), mapped by what comes before."""

    def __init__(self, bench: Workbench, job: Any, before: Sequence[tuple[Repair[Any], Mapping[str, State]]]) -> None:
        self._bench, self._job, self._before = bench, job, before
        self.field: str = job.field
        self.seed: int = job.seed
        self.view: View = job.view
        self._stored = StoredTokens(bench.options.tokens, job.store, tuple(dict.fromkeys((job.field, *job.needs))))
        self.images: int = len(self._stored)
        self._kept = state_path(bench.options, job.id).with_suffix(".kept")

    def tokens(self) -> Iterator[Tokens]:
        for chunk in self._stored:
            tokens = as_float(chunk, self._bench.device)
            for repair, states in self._before:
                tokens = repair.map(tokens, states)
            yield tokens

    def backbone(self) -> Backbone:
        return self._bench.edited(self._job.backbone, self._job.dtype, self._job.edit, self._job.edit_fits)

    def pixels(self, order: Iterable[int] | None = None) -> Iterator[Any]:
        samples, keys = self._bench.samples(self._job.split), self._stored.keys
        for i in range(self.images) if order is None else order:
            yield samples.get(keys[i])["image"]

    def resumed(self) -> State:
        return load_file(self._kept) if self._kept.is_file() else {}

    def keep(self, state: State) -> None:
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        partial = self._kept.with_suffix(".writing")
        save_file({key: value.contiguous() for key, value in state.items()}, partial)
        partial.replace(self._kept)

    def done(self) -> None:
        """The fit has ended: what it kept on the way is not needed any more."""
        self._kept.unlink(missing_ok=True)
