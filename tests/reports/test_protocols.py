"""The committed protocol pages say what the frozen settings say."""

from __future__ import annotations

from dataclasses import replace

from vitbench.catalogue.tasks.segmentation import KNN_SEGMENTATION as CARD
from vitbench.paths import benchmarks_dir
from vitbench.reports.protocols import page, pages, write_pages


def test_committed_pages_agree_with_the_settings():
    committed = {p.name: p.read_text(encoding="utf-8") for p in (benchmarks_dir() / "protocols").glob("*.md")}
    assert committed == pages(), "python -m vitbench.reports.protocols"


def test_a_page_names_version_settings_measures_and_differences():
    text = page(CARD, CARD.protocol("hummingbird"))
    for part in ("knn_segmentation@hummingbird", "2306.01667", "`temperature`", "`0.02`", "**mIoU**", "How it differs"):
        assert part in text


def test_pages_say_what_a_measure_is_where_implementations_differ():
    said = {
        "depth@dinov2": "rmse_of_images is the root",
        "linear_segmentation@dinov2": "nanmean",
        "correspondence@pck": "per image pair",
    }
    written = pages()
    assert all(text in written[f"{name}.md"] for name, text in said.items())


def test_another_setting_or_version_gives_another_page():
    protocol = CARD.protocol("hummingbird")
    assert page(CARD, replace(protocol, version=2)) != page(CARD, protocol)
    assert page(CARD, replace(protocol, settings=replace(protocol.settings, k=31))) != page(CARD, protocol)


def test_every_setting_is_explained():
    for name, text in pages().items():
        rows = [line for line in text.splitlines() if line.startswith("| `")]
        assert rows, name
        assert all(line.split("|")[3].strip() for line in rows), name


def test_pages_of_protocols_that_are_no_more_are_removed(tmp_path):
    (tmp_path / "old@one.md").write_text("")
    (tmp_path / "README.md").write_text("kept")
    write_pages(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {*pages(), "README.md"}
