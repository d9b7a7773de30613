"""Decoding ahead of who asks for it: by processes of their own where there is much to decode, by threads where there is little.

A process imports no torch (40 MB and a third of a second instead of gigabytes and seconds), serves every pass and cell of its
engine process, and ends with it, however that ends. What it sends back are arrays over a pipe: no shared memory is used.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from typing import Any, TypeVar

from vitbench.catalogue.views import View
from vitbench.errors import DataError
from vitbench.tokens.geometry import Placement
from vitbench.tokens.placing import Pixels, place

# A JPEG of 500 x 375 placed in 518 x 518 takes 6 ms of a core in a thread, of which some 2 hold Python's lock; by processes it
# takes 8.5, of which 0.7 are this process's own. So threads are faster on few cores and cannot keep many busy.
CORES = 4
MANY = 256  # from so many samples on, processes are worth their start (0.3 s)
CHUNK = 4  # samples of one request to a process
THREADS = 16

Row = Mapping[str, list[Any]]  # one sample as it is stored: each column a list of one
Request = tuple[Row, tuple[Any, ...]]  # and what its cut is told beside it
A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True)
class Recipe:
    """How a stored row becomes what is asked for: the data set's own decoding, then `cut`. Sent to processes."""

    transform: Callable[[dict[str, list[Any]]], Mapping[str, list[Any]]]
    cut: Callable[..., Any]

    def packed(self) -> bytes | None:
        """As it is sent; None where it cannot be, as functions that are defined in another function."""
        try:
            return pickle.dumps(self)
        except (pickle.PicklingError, AttributeError, TypeError):
            return None


class Decoders:
    """The processes of one engine process, started when they are first needed.

    count: 0 for threads only, None for as many as there are cores where that is faster.
    """

    def __init__(self, count: int | None, cores: int, plugins: tuple[str, ...] = ()) -> None:
        self._count = count if count is not None else cores if cores >= CORES else 0
        self._few = MANY if count is None else 1
        self._plugins = plugins
        self._pool: ProcessPoolExecutor | None = None

    def worth_it(self, samples: int) -> bool:
        """Whether so many samples are decoded by processes."""
        return bool(self._count) and samples >= self._few

    def by_processes(
        self, recipe: bytes, requests: Iterable[Request], ahead: int = 0, chunk: int = CHUNK
    ) -> Iterator[Any | DataError]:
        """What the packed recipe makes of each row, in order; a row that cannot be used gives its error.

        ahead: so many at least are begun before they are asked for. Raises DataError where a process is ended from outside.
        """
        if self._pool is None:
            # Not fork: this process may have threads and a GPU.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._count, context, _start, (self._plugins,))
        source = iter(requests)
        chunks: Iterator[list[Request]] = iter(lambda: list(islice(source, chunk)), [])
        try:
            for made in in_order(
                self._pool, partial(decoded, recipe), chunks, max(2 * self._count, -(-ahead // chunk))
            ):
                yield from made
        except BrokenProcessPool as error:
            self.close()
            raise DataError(
                "a process that decodes images died: it was killed, most likely for memory, or could not start",
                "use fewer with --decoders N, or none with --decoders 0",
            ) from error

    def close(self) -> None:
        """End the processes; they are started again when they are needed."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def by_threads(function: Callable[[A], T], items: Iterable[A], ahead: int = 0) -> Iterator[T]:
    """`function` of each item, in order, worked on a few items (`ahead` at least) before they are asked for."""
    count = min(THREADS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(count) as pool:
        yield from in_order(pool, function, items, max(2 * count, ahead))


def in_order(pool: Executor, function: Callable[[A], T], items: Iterable[A], ahead: int) -> Iterator[T]:
    """`function` of each item in order, at most `ahead` of them begun before they are asked for."""
    waiting: deque[Future[T]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


# -- cuts: here, because a process imports what it is sent from ---------------------------------------------------------


def views_of(sample: Mapping[str, Any], view: View, patch_px: int) -> list[tuple[Pixels, Placement]]:
    """What the network sees of a sample's image."""
    return place(sample["image"], view, patch_px)


# -- in the process that decodes ---------------------------------------------------------------------------------------


def decoded(packed: bytes, requests: Iterable[Request]) -> list[Any | DataError]:
    """What a packed recipe makes of rows; an error in place of what cannot be used."""
    recipe, out = _unpacked(packed), []
    for row, told in requests:
        try:
            out.append(recipe.cut({name: values[0] for name, values in recipe.transform(dict(row)).items()}, *told))
        except DataError as error:
            out.append(error)
    return out


@lru_cache(maxsize=4)
def _unpacked(packed: bytes) -> Recipe:
    found: Recipe = pickle.loads(packed)  # packed by `Recipe.packed` in the process that started this one
    return found


def _start(plugins: tuple[str, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends its decoders
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if plugins:
        from vitbench.plugins import load_plugins

        load_plugins(plugins)


def _end_with_parent() -> None:
    # A parent that is killed closes nothing, and a pool's process would wait for its next request for ever.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
