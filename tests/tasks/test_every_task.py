"""What must hold for every registered task, on made-up scenes."""

from __future__ import annotations

import numpy as np
import pytest

from vitbench.catalogue import TASKS
from vitbench.catalogue.fields import joined_fields, parse_field
from vitbench.errors import VitbenchError
from vitbench.metrics import measures
from vitbench.tasks.memory import MemoryStream

from .clip_streams import of_scenes
from .live import as_live
from .streams import SWEPT, context, light, scenes_stream

CASES = [(card.name, protocol.name) for card in TASKS if of_scenes(card) for protocol in card.protocols]
CONTEXT = context(6, (2, 3, 4, 5), 4)


def run(name, protocol, train, val, ctx=CONTEXT, noise=10.0):
    card = TASKS.get(name)
    task = light(card, protocol).load()
    if card.protocol(protocol).streams:
        train, val = as_live(train, noise), as_live(val, noise)
    head = task.fit(train, ctx) if "train" in card.splits else None
    rows = task.measure(head, val, ctx)
    return rows, {m.name: float(m.value(rows.sums(), rows.info)) for m in measures(card.metric)}, task.flags(head, rows)


@pytest.fixture(scope="module")
def streams():
    return scenes_stream(24, "train", 0), scenes_stream(10, "val", 1)


@pytest.mark.parametrize("name, protocol", CASES)
def test_rows_are_one_per_image_with_finite_statistics(streams, name, protocol):
    rows, values, _ = run(name, protocol, *streams)
    assert rows.unit_id == rows.group_id == streams[1].keys
    assert all(np.isfinite(s).all() for s in rows.stats.values())
    assert np.isfinite(values[TASKS.get(name).headline])


@pytest.mark.parametrize("name, protocol", [case for case in CASES if TASKS.get(case[0]).protocol(case[1]).streams])
def test_the_same_run_gives_the_same_numbers(streams, name, protocol):
    first, second = run(name, protocol, *streams)[0], run(name, protocol, *streams)[0]
    assert all(np.array_equal(first.stats[k], second.stats[k]) for k in first.stats)


@pytest.mark.parametrize("name, protocol", CASES)
def test_informative_tokens_beat_noise(streams, name, protocol):
    if TASKS.get(name).family == "diagnostic":
        pytest.skip("a diagnostic has no better and worse features")
    if name == "token_classification":
        pytest.skip("an outlier of made-up scenes does not know the label")
    if protocol == "lost_norm":
        pytest.skip("norms say nothing of where the objects of made-up scenes are")
    noisy = scenes_stream(24, "train", 0, noise=30.0), scenes_stream(10, "val", 1, noise=30.0)
    if name in ("object_discovery", "saliency"):
        for stream in noisy:
            for part in stream:
                for field in SWEPT:
                    part.tokens.fields[field].normal_()
    if name == "attention_segmentation":
        for part in noisy[1]:
            for field in ("cls_attention", "register_attention"):
                part.tokens.fields[field].uniform_()
    card = TASKS.get(name)
    sign = 1 if next(m for m in measures(card.metric) if m.name == card.headline).higher_is_better else -1
    informed = run(name, protocol, *streams)[1][card.headline]
    lost = run(name, protocol, *noisy, noise=200.0)[1][card.headline]
    assert sign * informed > sign * lost


@pytest.mark.parametrize("name, protocol", CASES)
def test_an_empty_split_ends_in_one_clear_line(name, protocol, streams):
    empty = MemoryStream([])
    with pytest.raises(VitbenchError, match=r"empty|train images|no pixel"):
        run(name, protocol, empty, empty)


@pytest.mark.parametrize("name, protocol", CASES)
def test_cards_are_consistent(name, protocol):
    card = TASKS.get(name)
    settings = card.protocol(protocol).settings
    fields = [*card.aux(settings), *([] if settings.field == "auto" else [settings.field])]
    assert all(parse_field(part) for f in fields for part in joined_fields(f))
    assert card.headline in {m.name for m in measures(card.metric)}
    assert type(light(card, protocol).load()).card is TASKS.load(name).card is card
    assert card.view(settings)


@pytest.mark.parametrize("name", ["linear_segmentation", "knn_segmentation"])
def test_undeclared_classes_are_found_and_a_late_one_widens_the_rows(name):
    train, val = scenes_stream(8, "train", 0), scenes_stream(4, "val", 1)
    val.batches[0].targets[1]["segmentation"][:8, :8] = 11
    rows, values, _ = run(name, TASKS.get(name).protocols[0].name, train, val, context())
    assert rows.stats["tp"].shape == (4, 12)
    assert np.isfinite(values["mIoU"])
    with pytest.raises(VitbenchError, match="image 'val-1': label 11 is outside the 6 classes"):
        run(name, TASKS.get(name).protocols[0].name, train, val, CONTEXT)


@pytest.mark.parametrize("name", ["linear_segmentation", "depth", "object_discovery", "knn_segmentation"])
def test_grids_may_differ_between_batches(name):
    def mixed(split, seed):
        wide, tall = scenes_stream(6, split, seed), scenes_stream(6, split + "-tall", seed, hw=(48, 24))
        return MemoryStream([*wide.batches, *tall.batches], split)

    rows, values, _ = run(name, TASKS.get(name).protocols[0].name, mixed("train", 0), mixed("val", 1))
    assert len(rows) == 12
    assert np.isfinite(values[TASKS.get(name).headline])
