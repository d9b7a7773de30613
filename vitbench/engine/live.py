"""Cells on one live stream: images, inputs and forwards are shared; maps, heads, rows and failures are each cell's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safetensors.torch import load_file, save_file
from torch import Tensor

from vitbench.backbones.base import Backbone
from vitbench.catalogue.resolve import expand_tasks
from vitbench.engine.cells import cost, lock, record_cell, skipped
from vitbench.engine.outcome import Outcome, failure
from vitbench.engine.streams import as_float
from vitbench.engine.workspace import state_path
from vitbench.errors import RecordError, StorageError
from vitbench.jobs import CellJob, StreamJob
from vitbench.records.store import find
from vitbench.repairs.base import Repair, State
from vitbench.tasks.base import TaskContext
from vitbench.tasks.live import Inputs, Reader, StreamTask
from vitbench.tokens.types import TokenRequest, Tokens
from vitbench.tokens.views import batch

if TYPE_CHECKING:
    from vitbench.engine.jobs import Workbench

T = TypeVar("T")


class LiveSplit:
    """The `LiveImages` of one split, and its tokens as the backbone of some cells, edited, gives them."""

    def __init__(self, bench: Workbench, backbone: Backbone, cells: Sequence[CellJob], split: str) -> None:
        self.split, self._device, self._backbone = split, bench.device, backbone
        self._samples = bench.samples(cells[0].splits[split])
        self._request = TokenRequest(tuple(dict.fromkeys(name for cell in cells for name in cell.fields)))
        self.patch_px = backbone.card.patch_px
        self.forwards = 0  # images that went through the backbone

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._samples.keys)

    def __len__(self) -> int:
        return len(self._samples)

    def sample(self, key: str) -> Mapping[str, Any]:
        return self._samples.get(key)

    def prepared(
        self, asked: Iterable[tuple[Any, ...]], make: Callable[..., T], ahead: int = 0, light: bool = True
    ) -> Iterator[T]:
        return self._samples.prepared(asked, make, ahead, light)

    def tokens(self, inputs: Inputs[Any]) -> list[Tokens]:
        """Every field that one of the cells reads, of every batch."""
        out = []
        for placed, keys in inputs.batches:
            pixels, geometry = batch(placed, self.patch_px)
            out.append(as_float(self._backbone.forward(pixels, geometry, self._request, keys), self._device))
            self.forwards += len(keys)
        return out


class Member:
    """One cell on the stream: the map of its repair, what its training keeps, its own time, and how it ended."""

    def __init__(self, bench: Workbench, job: CellJob) -> None:
        self.job = job
        self.outcome: Outcome | None = None
        self.seconds = 0.0
        self._kept: Path = state_path(bench.options, job.id).with_suffix(".kept")
        self._maps: list[tuple[Repair[Any], dict[str, State]]] = []
        with self.own():
            self._maps = bench.maps(job.maps, job.fits)

    @contextmanager
    def own(self) -> Iterator[None]:
        """What is done inside is this cell's own: if it goes wrong the cell has failed, and the others go on."""
        started = time.perf_counter()
        try:
            yield
        except (StorageError, RecordError):  # a full disk stops everything
            raise
        except Exception as error:  # noqa: BLE001 - the contract: any failure of a cell is recorded
            self.outcome = failure(error, "cell")
        finally:
            self.seconds += time.perf_counter() - started

    def mapped(self, tokens: Tokens) -> Tokens:
        """Tokens as this cell's repair leaves them; fields that only other cells read are left out."""
        fields = {name: tokens.fields[name] for name in self.job.fields}
        out = Tokens(fields, tokens.geometry, tokens.keys)
        for repair, states in self._maps:
            out = repair.map(out, states)
        return out

    def resumed(self) -> Mapping[str, Tensor]:
        return load_file(self._kept) if self._kept.is_file() else {}

    def keep(self, state: Mapping[str, Tensor]) -> None:
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        partial = self._kept.with_suffix(".writing")
        save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, partial)
        partial.replace(self._kept)

    def done(self) -> None:
        """The cell has its record: what its training kept on the way is not needed any more."""
        self._kept.unlink(missing_ok=True)


def run_stream_job(job: StreamJob, bench: Workbench) -> Outcome:
    """Train, choose and score the heads of all cells on one stream, and write a record for each. `parts`: how each ended."""
    started = time.perf_counter()
    with ExitStack() as locks:
        for identity in sorted(cell.identity for cell in job.cells):
            locks.enter_context(lock(bench.options, identity))
        parts, todo = {}, []
        for cell in job.cells:
            done = find(bench.options.records, cell.slot, cell.identity)
            if done is not None and done.status == "ok":
                parts[cell.id] = Outcome("ok", "already there")
            else:
                todo.append(Member(bench, cell))
        forwards = _Stream(bench, todo).run() if todo else 0
        parts |= {m.job.id: m.outcome for m in todo if m.outcome is not None}
    return Outcome("ok", f"{len(parts)} cells", time.perf_counter() - started, forwards, parts=parts)


class _Stream:
    """The cells that are still to be done, and what they share: task, splits, forwards and the time these take."""

    def __init__(self, bench: Workbench, members: Sequence[Member]) -> None:
        self._bench, self._members, self._cell = bench, members, members[0].job
        self._splits: list[LiveSplit] = []
        self._shared_s = 0.0

    def run(self) -> int:
        """Carry the cells out; returns the forwards. What goes wrong on the stream itself is the failure of all cells left."""
        try:
            self._run()
        except (StorageError, RecordError):
            raise
        except Exception as error:  # noqa: BLE001 - as for one cell
            for member in self._left():
                member.outcome = failure(error, "cell")
        return self._images * self._cell.forwards_per_image

    @property
    def _images(self) -> int:
        return sum(split.forwards for split in self._splits)

    def _left(self) -> list[Member]:
        return [member for member in self._members if member.outcome is None]

    def _run(self) -> None:
        one, bench = self._cell, self._bench
        [ref] = expand_tasks(one.slot.task)
        task: StreamTask[Any, Any, Any] = ref.load()
        context = TaskContext(bench.dataset(one.slot.dataset), one.slot.seed)
        backbone = bench.edited(one.backbone, one.components["dtype"], one.edit, one.edit_fits)
        cells = [member.job for member in self._members]
        train, val = self._splits = [LiveSplit(bench, backbone, cells, name) for name in ("train", "val")]
        trainers = self._each(lambda m: task.trainer(context, m))
        start = min((trainer.start for trainer in trainers.values()), default=0)
        trained = self._follow(train, task.training(train, context, start), trainers)
        choosers = self._each(lambda m: task.chooser(trained[m], context))
        heads = self._follow(train, task.choosing(train, context), choosers)
        fit_s = {member: member.seconds for member in self._members}
        rows = self._follow(val, task.testing(val, context), self._each(lambda m: task.scorer(heads[m], context)))
        keys = {split.split: split.keys for split in self._splits}
        for m in self._left():
            with m.own():
                took = cost(
                    m.job, bench, forward_s=self._shared_s, forwards=self._images, head_fit_s=fit_s[m],
                    measure_s=m.seconds - fit_s[m],
                )  # fmt: skip
                flags = {**task.flags(heads[m], rows[m]), **skipped(m.job, keys)}
                text = record_cell(m.job, bench, ref, rows[m], took, flags)
                m.done()
                m.outcome = Outcome("ok", text, self._shared_s + m.seconds)

    def _follow(
        self, live: LiveSplit, stream: Iterator[Inputs[Any]], readers: Mapping[Member, Reader[T]]
    ) -> dict[Member, T]:
        """Take a stream through the backbone once for all readers; returns what came of each."""
        started, own = time.perf_counter(), sum(member.seconds for member in self._members)
        for inputs in stream:
            following = self._left()
            if not following:
                break
            tokens = live.tokens(inputs)
            for member in following:
                with member.own():
                    readers[member].see([member.mapped(t) for t in tokens], inputs)
        self._shared_s += time.perf_counter() - started - (sum(member.seconds for member in self._members) - own)
        return self._each(lambda m: readers[m].result())

    def _each(self, act: Callable[[Member], T]) -> dict[Member, T]:
        """What every cell that has not failed makes of something."""
        made = {}
        for member in self._left():
            with member.own():
                made[member] = act(member)
        return made
