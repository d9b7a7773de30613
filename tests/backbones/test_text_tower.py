"""Text towers: both ends of a CLIP are open_clip's own, and the table of pairs is what timm and open_clip say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import timm
import torch

from vitbench.backbones.checkpoints import load_weights
from vitbench.backbones.text_tower import OpenClipLanguage
from vitbench.catalogue import BACKBONES
from vitbench.catalogue.language import TEXT_TOWERS, TextTower, text_tower
from vitbench.errors import NotApplicableError, UnavailableError, UsageError, WeightsError

from .clip import PAIRS, image_tower, package, tiny_clip

NAMES = ("tench", "great white shark", "kite (bird of prey)", "crème brûlée")


def language(path: Path) -> OpenClipLanguage:
    return OpenClipLanguage(TextTower(path.stem), path, "tiny_clip")


@pytest.mark.parametrize("model", PAIRS)
def test_the_projected_cls_of_timms_vit_is_open_clips_image_embedding(model: str, tmp_path: Path) -> None:
    clip, path = tiny_clip(model, tmp_path)
    module = image_tower(model)
    load_weights(module, path, "tiny")
    x = torch.randn(3, 3, *module.patch_embed.img_size)
    found = language(path).project(module.forward_features(x)[:, 0])
    expected = clip.encode_image(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.1


def test_gelu_in_place_of_quickgelu_gives_another_embedding(tmp_path: Path) -> None:
    clip, path = tiny_clip("ViT-B-16-quickgelu", tmp_path)
    module = image_tower("ViT-B-16")
    load_weights(module, path, "tiny")
    x = torch.randn(3, 3, 64, 64)
    assert not torch.allclose(language(path).project(module.forward_features(x)[:, 0]), clip.encode_image(x), atol=1e-3)


@pytest.mark.parametrize("model", PAIRS)
@pytest.mark.parametrize("which", ["imagenet80", "imagenet7"])
def test_class_embeddings_are_those_of_open_clips_own_classifier(model: str, which: str, tmp_path: Path) -> None:
    open_clip = package()
    clip, path = tiny_clip(model, tmp_path)
    spoken = language(path)
    theirs = {"imagenet80": open_clip.OPENAI_IMAGENET_TEMPLATES, "imagenet7": open_clip.SIMPLE_IMAGENET_TEMPLATES}[
        which
    ]
    expected = open_clip.build_zero_shot_classifier(clip, open_clip.get_tokenizer(path.stem), NAMES, theirs).T
    found = spoken.classifier([[text.format(name) for text in spoken.templates(which)] for name in NAMES])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert (expected[0] - expected[1]).norm() > 1e-3
    assert len(spoken.templates(which)) == int(which.removeprefix("imagenet"))


def test_many_prompts_give_what_few_at_a_time_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = tiny_clip("ViT-B-16", tmp_path)
    prompts = [[f"a {name}", f"the {name}"] for name in NAMES] + [["one prompt only"]]
    whole = language(path).classifier(prompts)
    monkeypatch.setattr("vitbench.backbones.text_tower.TEXTS_AT_ONCE", 2)
    torch.testing.assert_close(language(path).classifier(prompts), whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(whole.norm(dim=-1), torch.ones(5))


def test_prompts_are_read_as_far_as_the_longest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = tiny_clip("ViT-B-16", tmp_path)
    built: list[int] = []
    model = OpenClipLanguage._model
    monkeypatch.setattr(OpenClipLanguage, "_model", lambda self, n: (built.append(n), model(self, n))[1])
    prompts = [["a photo of a dog."], ["a photo of a great white shark."], ["a " * 100]]
    short, whole = language(path).classifier(prompts[:2]), language(path).classifier(prompts)
    assert built == [10, 77]
    torch.testing.assert_close(short, whole[:2], rtol=1e-5, atol=1e-6)


def test_imagenet_has_a_curated_name_for_each_wordnet_id(tmp_path: Path) -> None:
    names = language(tiny_clip("ViT-B-16", tmp_path)[1]).imagenet_names()
    assert len(names) == 1000
    assert list(names)[:2] == ["n01440764", "n01443537"]
    assert (names["n01440764"], names["n02012849"], names["n03126707"]) == ("tench", "crane bird", "construction crane")


def test_files_with_one_tower_say_what_is_lacking(tmp_path: Path) -> None:
    clip, path = tiny_clip("ViT-B-16", tmp_path)
    state = clip.state_dict()
    torch.save({k: v for k, v in state.items() if k.startswith("visual.")}, tmp_path / "image.pt")
    torch.save({k: v for k, v in state.items() if k != "visual.proj"}, tmp_path / "text.pt")
    for name, lacking in (("image", "text tower"), ("text", "visual projection")):
        with pytest.raises(UnavailableError, match=f"{name}.pt hold no {lacking} - pass --weights tiny_clip=FILE"):
            OpenClipLanguage(TextTower(path.stem), tmp_path / f"{name}.pt", "tiny_clip")


def test_weights_of_another_text_tower_name_the_first_key(tmp_path: Path) -> None:
    _, path = tiny_clip("ViT-B-16", tmp_path)
    with pytest.raises(
        WeightsError, match=r"do not fit the text tower 'ViT-B-32': 'ln_final.bias' is \(48,\), \(512,\) there"
    ):
        OpenClipLanguage(TextTower("ViT-B-32"), path, "tiny_clip").classifier([["a photo"]])
    with pytest.raises(UsageError, match="has no model 'ViT-Q'"):
        OpenClipLanguage(TextTower("ViT-Q"), path, "tiny_clip").classifier([["a photo"]])


def test_cls_of_another_width_is_not_applicable(tmp_path: Path) -> None:
    _, path = tiny_clip("ViT-B-16", tmp_path)
    with pytest.raises(NotApplicableError, match="takes 64 channels of CLS, not 60"):
        language(path).project(torch.zeros(2, 60))


def test_without_open_clip_the_remedy_is_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = tiny_clip("ViT-B-16", tmp_path)
    spoken = language(path)
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(UnavailableError, match=r"open_clip_torch - pip install 'vitbench\[open_clip\]'"):
        spoken.classifier([["a photo"]])


@pytest.mark.parametrize("timm_id", TEXT_TOWERS)
def test_a_pair_is_what_timm_and_open_clip_say_of_the_weights(timm_id: str) -> None:
    open_clip = package()
    tower, ours = TEXT_TOWERS[timm_id], timm.get_pretrained_cfg(timm_id)
    theirs, config = open_clip.get_pretrained_cfg(tower.model, tower.tag), open_clip.get_model_config(tower.model)
    assert theirs["hf_hub"].rstrip("/") == tower.hub
    assert bool(theirs.get("quick_gelu")) == bool(config.get("quick_gelu")) == ("quickgelu" in timm_id)
    assert ours.num_classes == config["embed_dim"], "the projection, which timm keeps as a classifier"
    assert ours.input_size[1] == config["vision_cfg"]["image_size"]
    assert theirs["resize_mode"] == "shortest"
    assert theirs["interpolation"] == ours.interpolation == "bicubic"
    assert theirs["mean"] == ours.mean
    assert theirs["std"] == ours.std
    if tower.hub.startswith("timm/vit"):
        assert ours.hf_hub_id == tower.hub


@pytest.mark.parametrize("timm_id", [t for t in TEXT_TOWERS if not t.startswith("eva")])
def test_both_image_towers_of_a_pair_have_the_same_shape(timm_id: str) -> None:
    vision = package().get_model_config(TEXT_TOWERS[timm_id].model)["vision_cfg"]
    with torch.device("meta"):
        module = timm.create_model(timm_id.partition(".")[0], num_classes=0)
    patch = module.patch_embed.patch_size[0]
    assert (module.embed_dim, len(module.blocks), patch) == (vision["width"], vision["layers"], vision["patch_size"])
    heads = vision["width"] // vision.get("head_width", 64)
    assert module.blocks[0].attn.num_heads == heads


def test_every_clip_of_the_catalogue_has_its_text_tower() -> None:
    clips = [c for c in BACKBONES if c.family in ("clip", "openclip", "eva02_clip")]
    assert {c.name for c in clips if text_tower(c) is None} == {"vit_base_patch16_clip_384.laion2b_ft_in12k_in1k"}
    assert all(text_tower(c) is None for c in BACKBONES if c.family in ("dinov2", "siglip2", "lab", "control"))
