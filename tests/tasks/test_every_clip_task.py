"""What must hold for every registered task whose units are videos, pairs, objects or queries, on made-up input."""

from __future__ import annotations

import numpy as np
import pytest

from vitbench.catalogue import TASKS
from vitbench.catalogue.fields import parse_field
from vitbench.errors import VitbenchError
from vitbench.metrics import measures
from vitbench.tasks.memory import MemoryStream

from .clip_streams import of_scenes, stream_for
from .streams import context, light

CASES = [(card.name, protocol.name) for card in TASKS if not of_scenes(card) for protocol in card.protocols]
CONTEXT = context(labels=2)


def run(name, protocol, train, val):
    card = TASKS.get(name)
    task = light(card, protocol).load()
    head = task.fit(train, CONTEXT) if "train" in card.splits else None
    rows = task.measure(head, val, CONTEXT)
    return rows, {m.name: float(m.value(rows.sums(), rows.info)) for m in measures(card.metric)}, task.flags(head, rows)


def streams(name, noise=0.6, batch_size=8):
    card = TASKS.get(name)
    return (stream_for(card, 24, split, seed, noise, batch_size) for split, seed in (("train", 0), ("val", 1)))


@pytest.mark.parametrize("name, protocol", CASES)
def test_rows_have_finite_statistics_and_groups_are_videos_or_images(name, protocol):
    train, val = streams(name)
    rows, values, _ = run(name, protocol, train, val)
    assert len(set(rows.unit_id)) == len(rows) > 0
    known = {*val.keys, *(key.rpartition("/")[0] for key in val.keys), *(key.partition("/")[0] for key in val.keys)}
    assert set(rows.group_id) <= known
    assert all(np.isfinite(s).all() for s in rows.stats.values())
    assert np.isfinite(values[TASKS.get(name).headline])


@pytest.mark.parametrize("name, protocol", CASES)
def test_informative_tokens_beat_noise(name, protocol):
    headline = TASKS.get(name).headline
    informed, lost = (run(name, protocol, *streams(name, noise))[1][headline] for noise in (0.1, 30.0))
    assert informed > lost


@pytest.mark.parametrize("name, protocol", CASES)
def test_an_empty_split_ends_in_one_clear_line(name, protocol):
    with pytest.raises(VitbenchError, match="empty"):
        run(name, protocol, MemoryStream([]), MemoryStream([]))


@pytest.mark.parametrize("name, protocol", CASES)
def test_cards_are_consistent(name, protocol):
    card = TASKS.get(name)
    settings = card.protocol(protocol).settings
    assert all(parse_field(f) for f in (settings.field, *card.aux(settings)))
    assert {card.headline, *card.secondary} <= {m.name for m in measures(card.metric)}
    assert type(light(card, protocol).load()).card is TASKS.load(name).card is card
    assert card.view(settings)
