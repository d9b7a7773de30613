"""From names to weights: cards that agree with timm, states known without torch, and loading from every place."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from vitbench import paths
from vitbench.backbones import lab
from vitbench.backbones.controls import PatchColour
from vitbench.backbones.load import load_backbone
from vitbench.backbones.timm import create
from vitbench.backbones.vit import card_of
from vitbench.catalogue import BACKBONES
from vitbench.catalogue.backbones import LAB_CARDS
from vitbench.catalogue.cards import BackboneCard
from vitbench.catalogue.families import PUBLIC_CARDS
from vitbench.catalogue.weights import describe_backbone, file_digest, hub_repository, timm_card
from vitbench.errors import UnavailableError, UsageError, WeightsError
from vitbench.tokens.types import TokenRequest

from .by_hand import images

TINY = "deit_tiny_patch16_224.fb_in1k"


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this machine's caches nor its network."""
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for proxy in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(proxy, raising=False)


@pytest.mark.parametrize("card", [c for c in PUBLIC_CARDS if c.weights == "hub"], ids=lambda c: c.name)
def test_cards_agree_with_timm(card: BackboneCard) -> None:
    config = timm.get_pretrained_cfg(card.timm_id)
    assert config is not None, "timm has no such weights"
    with torch.device("meta"):
        module = create(card.timm_id)
    for fact in ("patch_px", "prefix_tokens", "registers", "embed_dim", "depth", "final_norm"):
        assert getattr(card, fact) == getattr(card_of(module, card), fact), fact
    np.testing.assert_allclose((card.mean, card.std), (config.mean, config.std), atol=1e-6)
    assert card.licence == config.license
    assert hub_repository(card) == config.hf_hub_id
    assert ("learned" in card.position) == (module.pos_embed is not None)
    assert ("RoPE" in card.position) == (getattr(module, "rope", None) is not None)


def test_register_twins_exist_and_differ_in_registers_only() -> None:
    twins = [card for card in BACKBONES if card.register_twin]
    assert len(twins) >= 5
    for card in twins:
        twin = BACKBONES.get(card.register_twin)
        assert twin.registers == 4
        assert (twin.patch_px, twin.embed_dim, twin.depth) == (card.patch_px, card.embed_dim, card.depth)


def test_every_public_card_says_where_it_comes_from() -> None:
    for card in PUBLIC_CARDS:
        assert card.source is not None
        assert card.source.arxiv
        assert card.position
    values = {card.family for card in PUBLIC_CARDS if card.lost_feature == "value"}
    assert values == {"deit3", "openclip"}


@pytest.mark.parametrize("card", LAB_CARDS, ids=lambda c: c.name)
def test_lab_cards_agree_with_the_labs_architecture(card: BackboneCard) -> None:
    assert card_of(lab.build_lab_vit(card.registers), card) == card
    assert (card.mean, card.std) == (lab.MEAN, lab.STD)


def test_describing_backbones_needs_no_torch() -> None:
    code = (
        "import sys; from vitbench.catalogue.weights import describe_backbone as d\n"
        "for name in ('lab_ssl', 'random_vit[patch_px=16]', 'timm:vit_base_patch8_224', 'vit_base_patch16_224.mae'): d(name)\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'timm', 'numpy', 'pandas', 'pydantic')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=paths.PACKAGE.parent, check=False).returncode == 0


def test_weights_that_are_not_here_are_a_download_or_unavailable_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert describe_backbone(TINY)[1].status == "download"
    for offline in (True, False):
        monkeypatch.setenv("HF_HUB_OFFLINE", "" if offline else "1")
        state = describe_backbone(TINY, offline=offline)[1]
        assert state.status == "unavailable"
        assert f"--weights {TINY}=FILE" in state.remedy
        with pytest.raises(UnavailableError, match=f"'{TINY}' are not on this machine - pass --weights"):
            load_backbone(TINY, offline=offline)


def test_a_hub_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match="the hub does not answer"):
        load_backbone(TINY)


def in_hub_cache(root: Path, repo: str, state: dict[str, torch.Tensor]) -> None:
    base = root / "hub" / f"models--{repo.replace('/', '--')}"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text("0123456789abcdef0123456789abcdef01234567")
    snapshot = base / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    save_file(state, snapshot / "model.safetensors")


@pytest.mark.parametrize("timm_id", [TINY, "vit_tiny_patch16_224.augreg_in21k"])
def test_a_model_in_the_hubs_cache_loads_offline_with_the_revision_as_digest(timm_id: str, tmp_path: Path) -> None:
    module = timm.create_model(timm_id).eval()
    in_hub_cache(tmp_path, f"timm/{timm_id}", module.state_dict())
    backbone = load_backbone(f"timm:{timm_id}", offline=True)
    assert backbone.digest == "0123456789abcdef"
    assert backbone.card.embed_dim == 192
    assert backbone.card.mean == tuple(timm.get_pretrained_cfg(timm_id).mean)
    assert all(torch.equal(v, module.state_dict()[k]) for k, v in backbone.module.state_dict().items())


def test_weights_from_a_file_have_the_files_digest_and_any_timm_id_will_do(tmp_path: Path) -> None:
    module = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    file = tmp_path / "mine.safetensors"
    save_file(module.state_dict(), file)
    name = "timm:vit_tiny_patch16_224"
    backbone = load_backbone(name, weights={name: str(file)}, offline=True)
    assert backbone.digest == file_digest(file)
    assert (backbone.card.name, backbone.card.prefix_tokens, backbone.card.depth) == (name, 1, 12)
    step = load_backbone(f"{name}@100", weights={f"{name}@100": str(file)})
    assert step.card.name == f"{name}@100"
    tokens = step.tokens(images(1, (32, 48)), TokenRequest(("patch",)), ["a"])
    assert tokens["patch"].shape == (1, 2, 3, 192)


def test_digests_are_remembered_until_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "w.bin"
    file.write_bytes(b"one")
    first = file_digest(file)
    remembered = tmp_path / "cache" / "digests.json"
    remembered.write_text(remembered.read_text().replace(first, "f" * 16))
    assert file_digest(file) == "f" * 16
    file.write_bytes(b"three")
    assert file_digest(file) not in (first, "f" * 16)
    remembered.write_text("not json")
    assert len(file_digest(file)) == 16


def test_lab_weights_given_by_file_replace_the_shipped_ones(tmp_path: Path) -> None:
    module = lab.build_lab_vit(4)
    save_file({k: v.half() for k, v in module.state_dict().items()}, tmp_path / "w.safetensors")
    backbone = load_backbone("lab_ssl_reg4", weights={"lab_ssl_reg4": str(tmp_path / "w.safetensors")})
    tokens = backbone.tokens(images(1, (24, 40)), TokenRequest(("patch", "registers")), ["a"])
    assert tokens["patch"].shape == (1, 3, 5, 192)
    assert tokens["registers"].shape == (1, 4, 192)
    with pytest.raises(WeightsError, match=r"'reg_token' is not part of the model.*4 registers"):
        load_backbone("lab_ssl", weights={"lab_ssl": str(tmp_path / "w.safetensors")})


@pytest.mark.parametrize(
    "name, message",
    [
        ("lab_sll", "did you mean lab_ssl"),
        ("lab_ssl[patch_px=4]", "takes no parameters"),
        ("random_vit[size=4]", "has no parameter 'size'"),
        ("random_vit[patch_px=0]", "is not a size"),
        ("timm:", "needs a model id"),
        ("lab_ssl@100", "--weights lab_ssl@100=FILE"),
    ],
)
def test_names_that_mean_nothing_say_what_was_probably_meant(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("[", r"\[")):
        describe_backbone(name)


def test_a_weights_file_that_is_not_there_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"there is no file nowhere\.pth"):
        describe_backbone(TINY, {TINY: "nowhere.pth"})


@pytest.mark.parametrize(
    "timm_id, message",
    [
        ("vit_smal_patch14_dinov2", "has no model"),
        ("vit_small_patch14_dinov2.nope", "it has vit_small_patch14_dinov2.lvd142m"),
        ("resnet18", "choose a ViT"),
    ],
)
def test_timm_ids_that_are_no_vits_are_refused(timm_id: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        create(timm_id)


def test_somebodys_own_backbone_is_a_card_with_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    control = BACKBONES.get("patch_colour")
    monkeypatch.setitem(BACKBONES._cards, "mine", replace(control, name="mine", entry=PatchColour, options={}))
    mine = load_backbone("mine", dtype=torch.bfloat16)
    assert isinstance(mine, PatchColour)
    assert (mine.card.name, mine.dtype) == ("mine", torch.bfloat16)
    assert mine.digest != load_backbone("patch_colour").digest
    monkeypatch.setitem(BACKBONES._cards, "mine", replace(control, name="mine", entry=lambda card, weights: 3))
    with pytest.raises(UsageError, match="gave a int, not a Backbone"):
        load_backbone("mine")


def test_the_patch_is_read_off_the_id_or_off_the_model() -> None:
    assert timm_card("vit_small_patch14_dinov2.lvd142m").registers == 0
    assert timm_card("vit_small_patch14_dinov2.lvd142m").source is not None
    assert timm_card("vit_huge_patch14_224").patch_px == 14
    assert timm_card("test_vit").patch_px == 16
