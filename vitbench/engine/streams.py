"""Token streams over the store: what tasks and repairs read. Re-iterable, larger than memory, mapped by repairs on the way."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, groupby, islice, repeat
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from vitbench.backbones.base import Backbone
from vitbench.catalogue.views import View
from vitbench.data.load import load
from vitbench.data.targets import named
from vitbench.engine.decoders import MANY, Decoders, Recipe, Row, by_threads, views_of
from vitbench.engine.workspace import state_path
from vitbench.errors import DataError
from vitbench.jobs import SplitRef
from vitbench.repairs.base import Repair, State
from vitbench.tasks.base import Batch
from vitbench.tokens.store import StoredTokens
from vitbench.tokens.types import Tokens

if TYPE_CHECKING:
    from datasets import Dataset

    from vitbench.engine.jobs import Workbench

T = TypeVar("T")
MEMO_BYTES = 192 << 20
NAMED = 20  # corrupt files that are listed one by one


class Samples:
    """A split by key. What is asked for one by one is kept for a while, so that rendered or decoded targets are made once."""

    def __init__(self, ref: SplitRef, root: Any, decoders: Decoders | None = None) -> None:
        self._dataset = load(
            ref.dataset,
            ref.split,
            targets=ref.targets,
            limit=ref.limit,
            seed=ref.seed,
            root=root,
            least_px=ref.least_px,
        )
        self._decoders = decoders or Decoders(0, 1)
        self._skip_corrupt = ref.skip_corrupt
        self._images_alone = bool(ref.pictures)
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
        key = _image_of(key)
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

    def placed(self, view: View, patch_px: int) -> Iterator[tuple[str, Any]]:
        """Keys and what the network sees of their images, in order: the samples of a pass.

        Raises DataError naming all that cannot be read, or leaves them out if told to. Targets are decoded along only
        where corrupt ones are to be left out too.
        """
        cut = partial(views_of, view=view, patch_px=patch_px)
        broken: list[str] = []
        dataset = self._dataset
        if self._images_alone and self._stored:
            dataset = dataset.select_columns(["key", "image"])
        for key, found in zip(self.keys, self._decoded(dataset, self.keys, cut), strict=True):
            if isinstance(found, DataError):
                broken.append(found.message)
            elif self._skip_corrupt or not broken:
                yield key, found
        if broken and not (self._skip_corrupt and len(broken) < len(self.keys)):
            raise _unusable(broken, len(self.keys), "images")

    def targets(self, keys: Sequence[str], names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The named targets of keys (several windows of an image in a row share them), in order, decoded ahead.

        Raises DataError naming all that cannot be read.
        """
        images = [key for key, _ in groupby(keys, _image_of)]
        broken: list[str] = []
        found = self._decoded(self._dataset, images, partial(named, names=tuple(names)))
        for target, (_, windows) in zip(found, groupby(keys, _image_of), strict=True):
            if isinstance(target, DataError):
                broken.append(target.message)
            elif not broken:
                yield from (target for _ in windows)
        if broken:
            raise _unusable(broken, len(images), "samples")

    def prepared(
        self, asked: Iterable[tuple[Any, ...]], make: Callable[..., T], ahead: int, light: bool
    ) -> Iterator[T]:
        """See `LiveImages.prepared`. Raises DataError for the first sample that cannot be used."""
        left = iter(asked)
        some = list(islice(left, MANY))
        every = chain(some, left)
        worth = light and self._stored and self._decoders.worth_it(len(some))
        if worth and (recipe := _recipe(self._dataset, make)):
            stored = self._dataset.with_format(None)
            # One by one: what is made may be as large as many windows, and the next batch is wanted soon.
            requests = ((self._row(stored, one[0]), one) for one in every)
            made = self._decoders.by_processes(recipe, requests, ahead, chunk=1)
        else:
            made = by_threads(lambda one: make(self.get(one[0]), *one), every, ahead)
        for found in made:
            if isinstance(found, DataError):
                raise found
            yield found

    @property
    def _stored(self) -> bool:
        """Whether images are files; others are rendered."""
        return "image" in self._dataset.column_names

    def _decoded(
        self, dataset: Dataset, keys: Sequence[str], cut: Callable[[Mapping[str, Any]], Any]
    ) -> Iterator[Any | DataError]:
        """`cut` of each sample in order, or the error that says why it cannot be used."""
        one = partial(self._one, dataset, cut)
        if not self._stored:  # rendered: that is Python, where threads only wait for each other
            yield from map(one, keys)
        elif self._decoders.worth_it(len(keys)) and (recipe := _recipe(dataset, cut)):
            stored = dataset.with_format(None)
            yield from self._decoders.by_processes(recipe, ((self._row(stored, key), ()) for key in keys))
        else:
            yield from by_threads(one, keys)

    def _row(self, stored: Dataset, key: str) -> Row:
        return {name: [value] for name, value in stored[self._index[key]].items()}

    def _one(self, dataset: Dataset, cut: Callable[[Mapping[str, Any]], Any], key: str) -> Any | DataError:
        try:
            return cut(self.get(key) if dataset is self._dataset else dataset[self._index[key]])
        except DataError as error:
            return error


def _recipe(dataset: Dataset, cut: Callable[[Mapping[str, Any]], Any]) -> bytes | None:
    """How rows are decoded elsewhere; None for data sets that cannot be decoded elsewhere."""
    transform = dataset.format["format_kwargs"].get("transform")
    return Recipe(transform, cut).packed() if transform else None


def _image_of(key: str) -> str:
    return key.partition("#")[0]


def _unusable(broken: Sequence[str], count: int, what: str) -> DataError:
    more = f"; and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
    return DataError(
        f"{len(broken)} of {count} {what} cannot be used: {'; '.join(broken[:NAMED])}{more}",
        "replace them, or leave them out with --skip-corrupt",
    )


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
        targets = self._samples.targets(self.keys, self._targets) if self._targets else repeat({})
        for chunk in self._stored:
            tokens = as_float(chunk, self._device)
            for repair, states in self._maps:
                tokens = repair.map(tokens, states)
            sizes = (placement.source_hw for placement in tokens.geometry.placements)
            yield Batch(tokens, [{"image_hw": hw, **target} for hw, target in zip(sizes, targets)])  # noqa: B905 - endless


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
