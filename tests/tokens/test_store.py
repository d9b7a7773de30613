"""The token store: complete or not there, memory-mapped, and honest about damage."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vitbench.errors import StorageError
from vitbench.tokens.geometry import Geometry, Placement
from vitbench.tokens.manifest import evict, parts, stored_fields, verify
from vitbench.tokens.store import ShardWriter, StoredTokens
from vitbench.tokens.types import Tokens


def tokens(start: int, n: int, hw: tuple[int, int] = (2, 3)) -> Tokens:
    placement = Placement((16, 24), (16, 24), (16, 24))
    g = torch.Generator().manual_seed(start)
    fields = {"patch": torch.randn(n, *hw, 4, generator=g), "key": torch.randn(n, *hw, 4, generator=g)}
    return Tokens(fields, Geometry(8, hw, (placement,) * n), tuple(f"image-{start + i}" for i in range(n)))


def fill(root: Path, fields: tuple[str, ...], shard_bytes: int = 1 << 30) -> None:
    writer = ShardWriter(root, "store", fields, shard_bytes)
    for start, hw in ((0, (2, 3)), (10, (2, 3)), (20, (3, 2))):
        writer.write(tokens(start, 2, hw))
    writer.commit({"seconds": 1.0, "forwards": 6.0})


def test_what_is_written_is_read_back_in_order_with_its_dtype(tmp_path: Path) -> None:
    fill(tmp_path, ("patch", "key"))
    stored = StoredTokens(tmp_path, "store", ("patch", "key"))
    chunks = list(stored)
    assert stored.keys == ("image-0", "image-1", "image-10", "image-11", "image-20", "image-21")
    assert chunks[0]["key"].dtype == torch.float32
    assert torch.equal(chunks[1]["key"], tokens(10, 2)["key"])
    assert torch.equal(chunks[1]["patch"], tokens(10, 2)["patch"].half())
    assert chunks[2].geometry.grid_hw == (3, 2)
    assert next(iter(stored)).keys == chunks[0].keys  # re-iterable


def test_one_tensor_may_stand_for_several_fields_as_that_of_a_control_does(tmp_path: Path) -> None:
    given = tokens(0, 2)
    alike = Tokens(dict.fromkeys(("query", "key", "value"), given["key"]), given.geometry, given.keys)
    writer = ShardWriter(tmp_path, "store", tuple(alike.fields))
    writer.write(alike)
    writer.commit({})
    [chunk] = StoredTokens(tmp_path, "store", tuple(alike.fields))
    assert all(torch.equal(chunk[name], given["key"]) for name in alike.fields)


def test_small_shards_hold_the_same_tokens(tmp_path: Path) -> None:
    fill(tmp_path / "one", ("patch",))
    fill(tmp_path / "many", ("patch",), shard_bytes=1)
    assert len(list((tmp_path / "many").rglob("*.safetensors"))) == 3
    for a, b in zip(
        StoredTokens(tmp_path / "one", "store", ["patch"]),
        StoredTokens(tmp_path / "many", "store", ["patch"]),
        strict=True,
    ):
        assert torch.equal(a["patch"], b["patch"])


def test_fields_are_added_by_a_later_pass(tmp_path: Path) -> None:
    fill(tmp_path, ("patch",))
    assert stored_fields(tmp_path, "store") == {"patch"}
    with pytest.raises(StorageError, match="has no key"):
        StoredTokens(tmp_path, "store", ("patch", "key"))
    fill(tmp_path, ("key",))
    stored = StoredTokens(tmp_path, "store", ("patch", "key"))
    assert stored.cost == {"seconds": 2.0, "forwards": 12.0}
    assert "key" in next(iter(stored))


def test_an_interrupted_pass_is_not_there_and_its_remains_are_removed(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "store", ("patch",))
    writer.write(tokens(0, 2))
    assert stored_fields(tmp_path, "store") == frozenset()
    assert not [p for p in parts(tmp_path) if p.complete]
    fill(tmp_path, ("patch",))
    assert [p.complete for p in parts(tmp_path)] == [True]


def test_abort_leaves_nothing(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "store", ("patch",))
    writer.write(tokens(0, 2))
    writer.abort()
    assert parts(tmp_path) == []


def test_verify_names_a_changed_shard_and_a_truncated_one_is_not_there(tmp_path: Path) -> None:
    fill(tmp_path, ("patch",))
    [shard] = tmp_path.rglob("*.safetensors")
    good = shard.read_bytes()
    shard.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert "checksum differs" in verify(tmp_path)[0]
    shard.write_bytes(good[:-10])
    assert stored_fields(tmp_path, "store") == frozenset()
    assert "incomplete" in verify(tmp_path)[0]


def test_values_too_large_for_half_precision_are_an_error_not_infinity(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, "store", ("patch",))
    big = tokens(0, 2)
    with pytest.raises(StorageError, match="float16"):
        writer.write(big.with_field("patch", big["patch"] * 1e6))


def test_eviction_keeps_what_is_needed(tmp_path: Path) -> None:
    fill(tmp_path, ("patch",))
    assert evict(tmp_path, frozenset({"store"}), 0) == 0
    assert evict(tmp_path, frozenset(), 0) > 0
    assert parts(tmp_path) == []


def test_a_full_disk_is_one_line_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    writer = ShardWriter(tmp_path, "store", ("patch",))
    writer.write(tokens(0, 2))
    monkeypatch.setattr("vitbench.tokens.store.save_file", full)
    with pytest.raises(StorageError, match=r"disk is full.*free space"):
        writer.commit({})
    assert stored_fields(tmp_path, "store") == frozenset()
