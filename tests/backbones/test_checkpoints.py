"""Weights files: every layout gives the same tokens, and every bad file one clear line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vitbench.backbones.checkpoints import load_weights, read_state, state_digest
from vitbench.errors import WeightsError

from .by_hand import images, tiny, view

State = dict[str, Tensor]


def own(module: nn.Module) -> State:
    return {k: v.clone() for k, v in module.state_dict().items()}


def renamed(state: State, *pairs: tuple[str, str]) -> State:
    out = {}
    for key, value in state.items():
        for old, new in pairs:
            key = key.replace(old, new)
        out[key] = value
    return out


def split_qkv(state: State, prefix: str, names: str) -> State:
    """`attn.qkv.*` -> three maps named by the template."""
    out = {}
    for key, value in state.items():
        if ".attn.qkv." in key:
            for part, name in zip(value.chunk(3), ("query", "key", "value"), strict=True):
                out[key.replace(prefix, names.format(name, name[0]))] = part.clone()
        else:
            out[key] = value
    return out


def as_timm(module: nn.Module) -> object:
    return {**own(module), "head.weight": torch.zeros(10, 48), "head.bias": torch.zeros(10)}


def as_dino(module: nn.Module) -> object:
    teacher = {f"backbone.{k}": v for k, v in own(module).items()} | {"head.mlp.0.weight": torch.zeros(3, 3)}
    student = {f"module.{k}": torch.zeros_like(v) for k, v in teacher.items()}
    return {"student": student, "teacher": teacher, "epoch": 3, "args": argparse.Namespace(arch="vit_small")}


def as_mae(module: nn.Module) -> object:
    decoder = {
        "decoder_embed.weight": torch.zeros(2, 2),
        "mask_token": torch.zeros(1, 1, 2),
        "decoder_pred.bias": torch.zeros(2),
    }
    return {"model": own(module) | decoder, "optimizer": {"state": {}}, "args": argparse.Namespace(lr=1.0)}


def as_dinov2(module: nn.Module) -> object:
    state = own(module) | {"mask_token": torch.zeros(1, 48)}
    if "reg_token" in state:  # upstream keeps a position for CLS
        position = torch.randn(1, 1, 48)
        state["cls_token"] = state["cls_token"] - position
        state["pos_embed"] = torch.cat((position, state["pos_embed"]), dim=1)
    return renamed(state, ("reg_token", "register_tokens"))


def as_dinov2_chunks(module: nn.Module) -> object:
    state = renamed(
        as_dinov2(module), ("blocks.0.", "blocks.0.0."), ("blocks.1.", "blocks.0.1."), ("blocks.2.", "blocks.1.2.")
    )
    return {"teacher": {f"backbone.{k}": v for k, v in state.items()}}


def as_dinov2_giant(module: nn.Module) -> object:
    return renamed(as_dinov2(module), (".mlp.fc1.", ".mlp.w12."), (".mlp.fc2.", ".mlp.w3."))


def as_hf_dinov2(module: nn.Module) -> object:
    state = split_qkv(as_dinov2(module), ".attn.qkv.", ".attention.attention.{0}.")
    state = renamed(
        state,
        ("blocks.", "encoder.layer."),
        (".attn.proj.", ".attention.output.dense."),
        ("ls1.gamma", "layer_scale1.lambda1"),
        ("ls2.gamma", "layer_scale2.lambda1"),
        ("cls_token", "embeddings.cls_token"),
        ("mask_token", "embeddings.mask_token"),
        ("register_tokens", "embeddings.register_tokens"),
        ("pos_embed", "embeddings.position_embeddings"),
        ("patch_embed.proj.", "embeddings.patch_embeddings.projection."),
    )
    return {("layernorm." + k[5:] if k.startswith("norm.") else k): v for k, v in state.items()}


def as_hf_dinov2_giant(module: nn.Module) -> object:
    return renamed(as_hf_dinov2(module), (".mlp.fc1.", ".mlp.weights_in."), (".mlp.fc2.", ".mlp.weights_out."))


def as_hf_vit(module: nn.Module) -> object:
    state = renamed(
        as_hf_dinov2(module),
        (".norm1.", ".layernorm_before."),
        (".norm2.", ".layernorm_after."),
        (".mlp.fc1.", ".intermediate.dense."),
        (".mlp.fc2.", ".output.dense."),
    )
    state.pop("embeddings.mask_token")
    wrapped = {f"vit.{k}": v for k, v in state.items()}
    return wrapped | {"classifier.weight": torch.zeros(10, 48), "vit.pooler.dense.weight": torch.zeros(48, 48)}


def as_hf_dinov3(module: nn.Module) -> object:
    state = split_qkv(own(module), ".attn.qkv.", ".attention.{1}_proj.")
    for i in range(3):
        q = state.pop(f"blocks.{i}.attn.q_bias", torch.zeros(48))
        state[f"blocks.{i}.attention.q_proj.bias"] = q
        state[f"blocks.{i}.attention.v_proj.bias"] = state.pop(f"blocks.{i}.attn.v_bias", torch.zeros(48))
    return renamed(
        state,
        ("blocks.", "layer."),
        (".attn.proj.", ".attention.o_proj."),
        ("gamma_1", "layer_scale1.lambda1"),
        ("gamma_2", "layer_scale2.lambda1"),
        (".mlp.fc1.", ".mlp.up_proj."),
        (".mlp.fc2.", ".mlp.down_proj."),
        ("cls_token", "embeddings.cls_token"),
        ("reg_token", "embeddings.register_tokens"),
        ("patch_embed.proj.", "embeddings.patch_embeddings."),
    )


def as_dinov3(module: nn.Module) -> object:
    state = renamed(own(module), ("gamma_1", "ls1.gamma"), ("gamma_2", "ls2.gamma"), ("reg_token", "storage_tokens"))
    for i in range(3):
        q, v = (state.pop(f"blocks.{i}.attn.{n}_bias", torch.zeros(48)) for n in "qv")
        state[f"blocks.{i}.attn.qkv.bias"] = torch.cat((q, torch.randn(48), v))
        state[f"blocks.{i}.attn.qkv.bias_mask"] = torch.cat((torch.ones(48), torch.zeros(48), torch.ones(48)))
    return state | {"mask_token": torch.zeros(1, 48), "rope_embed.periods": torch.zeros(4)}


def as_deit3(module: nn.Module) -> object:
    return {"model": renamed(own(module), ("ls1.gamma", "gamma_1"), ("ls2.gamma", "gamma_2"))}


def as_clip(module: nn.Module) -> object:
    """OpenAI's and open_clip's, with both towers in one file."""
    state = renamed(
        own(module),
        ("blocks.", "transformer.resblocks."),
        (".norm1.", ".ln_1."),
        (".norm2.", ".ln_2."),
        (".attn.qkv.", ".attn.in_proj_"),
        (".attn.proj.", ".attn.out_proj."),
        (".mlp.fc1.", ".mlp.c_fc."),
        (".mlp.fc2.", ".mlp.c_proj."),
        ("norm_pre.", "ln_pre."),
        ("patch_embed.proj.", "conv1."),
        ("cls_token", "class_embedding"),
        ("pos_embed", "positional_embedding"),
    )
    state = {("ln_post." + k[5:] if k.startswith("norm.") else k): v for k, v in state.items()}
    state["class_embedding"] = state["class_embedding"].reshape(-1)
    state["positional_embedding"] = state["positional_embedding"][0]
    visual = {f"visual.{k}": v for k, v in (state | {"proj": torch.zeros(48, 8)}).items()}
    text = {"positional_embedding": torch.zeros(77, 8), "transformer.resblocks.0.ln_1.weight": torch.zeros(8)}
    return visual | text | {"logit_scale": torch.zeros(())}


def as_packed(module: nn.Module) -> object:
    """EVA with separate q/k/v from a file that packs them."""
    state = own(module)
    for i in range(3):
        p = f"blocks.{i}.attn."
        state[f"{p}qkv.weight"] = torch.cat([state.pop(f"{p}{n}_proj.weight") for n in "qkv"])
        q, v = state.pop(f"{p}q_proj.bias"), state.pop(f"{p}v_proj.bias")
        state[f"{p}q_bias"], state[f"{p}v_bias"] = q, v
    return state


@pytest.mark.parametrize(
    "timm_id, layout",
    [
        ("vit_small_patch16_224", as_timm),
        ("vit_small_patch16_224", as_dino),
        ("vit_small_patch16_224", as_mae),
        ("vit_small_patch16_224", as_hf_vit),
        ("deit3_small_patch16_224", as_deit3),
        ("vit_small_patch14_dinov2", as_dinov2),
        ("vit_small_patch14_dinov2", as_hf_dinov2),
        ("vit_small_patch14_reg4_dinov2", as_dinov2),
        ("vit_small_patch14_reg4_dinov2", as_dinov2_chunks),
        ("vit_small_patch14_reg4_dinov2", as_hf_dinov2),
        ("vit_giant_patch14_dinov2", as_dinov2_giant),
        ("vit_giant_patch14_dinov2", as_hf_dinov2_giant),
        ("vit_small_patch16_dinov3", as_dinov3),
        ("vit_small_patch16_dinov3", as_hf_dinov3),
        ("vit_small_patch16_dinov3_qkvb", as_dinov3),
        ("vit_small_patch16_dinov3_qkvb", as_hf_dinov3),
        ("eva02_base_patch14_224", as_packed),
        ("vit_base_patch16_clip_224", as_clip),
    ],
)
def test_every_layout_gives_the_same_features(
    timm_id: str, layout: Callable[[nn.Module], object], tmp_path: Path
) -> None:
    module, other = tiny(timm_id), tiny(timm_id, seed=1)
    torch.save(layout(module), tmp_path / "w.pth")
    load_weights(other, tmp_path / "w.pth", "tiny")
    x = torch.randn(1, 3, *(3 * module.patch_embed.patch_size[0], 4 * module.patch_embed.patch_size[0]))
    torch.testing.assert_close(other.forward_features(x), module.forward_features(x), rtol=1e-4, atol=1e-5)


def test_safetensors_in_half_precision_are_read_into_the_compute_dtype(tmp_path: Path) -> None:
    module, other = tiny("vit_small_patch16_224"), tiny("vit_small_patch16_224", seed=1)
    save_file({k: v.half() for k, v in own(module).items()}, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors", "tiny")
    torch.testing.assert_close(other.blocks[1].mlp.fc1.weight, module.blocks[1].mlp.fc1.weight, rtol=1e-3, atol=1e-3)
    assert other.cls_token.dtype == torch.float32


@pytest.mark.parametrize("timm_id", ["vit_small_patch16_224", "deit3_small_patch16_224"])
def test_positions_of_another_grid_are_resampled_as_timm_does(timm_id: str, tmp_path: Path) -> None:
    large, small = tiny(timm_id, img_size=96), tiny(timm_id, seed=1)
    torch.save(own(large), tmp_path / "w.pth")
    load_weights(small, tmp_path / "w.pth", "tiny")
    prefix = 0 if small.no_embed_class else 1
    expected = timm.layers.resample_abs_pos_embed(large.pos_embed, [4, 4], num_prefix_tokens=prefix)
    assert torch.equal(small.pos_embed, expected)


@pytest.mark.parametrize("with_cls", [True, False])
def test_positions_with_and_without_cls_mean_the_same(with_cls: bool, tmp_path: Path) -> None:
    plain, folded = tiny("vit_small_patch16_224"), tiny("vit_small_patch16_224", seed=1, no_embed_class=True)
    if not with_cls:
        plain, folded = folded, plain
    torch.save(own(plain), tmp_path / "w.pth")
    load_weights(folded, tmp_path / "w.pth", "tiny")
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(folded.forward_features(x), plain.forward_features(x), rtol=1e-4, atol=1e-5)


def one_line(path: Path, module: nn.Module | None = None) -> str:
    with pytest.raises(WeightsError) as caught:
        load_weights(module or tiny("vit_small_patch16_224"), path, "tiny")
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    return message


def test_truncated_files_are_named(tmp_path: Path) -> None:
    state = own(tiny("vit_small_patch16_224"))
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pth")
    torch.save(state, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    (tmp_path / "none.safetensors").write_bytes(b"")
    (tmp_path / "text.pt").write_text("hello world, this is no checkpoint")
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if path.name[0] in "wo" else content)
        assert "truncated or not" in one_line(path)


class Evil:
    def __reduce__(self) -> object:
        return os.system, ("touch pwned",)


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": own(tiny("vit_small_patch16_224")), "extra": Evil()}, "w.pth")
    assert "want to run code when read (posix.system)" in one_line(Path("w.pth"))
    torch.save(nn.Linear(2, 2), "module.pth")
    assert "want to run code" in one_line(Path("module.pth"))
    assert not Path("pwned").exists()


def test_weights_of_another_architecture_name_the_first_key_and_what_they_look_like(tmp_path: Path) -> None:
    torch.save(own(tiny("vit_small_patch14_reg4_dinov2", embed_dim=384, depth=2, num_heads=6)), tmp_path / "w.pth")
    message = one_line(tmp_path / "w.pth")
    assert "'cls_token' is (1, 1, 384) instead of (1, 1, 48)" in message
    assert "looks like vit_small, embed_dim 384, depth 2, patch 14, 4 registers" in message
    assert "'tiny' is embed_dim 48, depth 3, patch 16" in message


def test_missing_and_unexpected_keys_are_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    module = tiny("vit_small_patch16_224", seed=1)
    before = state_digest(module)
    state = own(tiny("vit_small_patch16_224"))
    torch.save({k: v for k, v in state.items() if k != "blocks.1.norm1.bias"}, tmp_path / "less.pth")
    assert "'blocks.1.norm1.bias' is missing" in one_line(tmp_path / "less.pth", module)
    torch.save(state | {"blocks.3.norm1.bias": torch.zeros(48)}, tmp_path / "more.pth")
    assert "'blocks.3.norm1.bias' is not part of the model" in one_line(tmp_path / "more.pth", module)
    torch.save(state | {"blocks.1.attn.k_proj.bias": torch.ones(48)}, tmp_path / "odd.pth")
    one_line(tmp_path / "odd.pth", tiny("vit_small_patch16_dinov3"))
    assert state_digest(module) == before


def test_files_without_a_vit_say_so(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "resnet.pth")
    assert "hold no ViT" in one_line(tmp_path / "resnet.pth")
    torch.save(
        {"visual.conv1.weight": torch.zeros(3), "visual.layer1.0.conv1.weight": torch.zeros(3)}, tmp_path / "rn50.pth"
    )
    assert "hold no ViT" in one_line(tmp_path / "rn50.pth")
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    assert "no tensors" in one_line(tmp_path / "epoch.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    assert "hold a list" in one_line(tmp_path / "list.pth")


def test_averaged_weights_are_taken_before_raw_ones(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.zeros(1)}, "model_ema": {"a": torch.ones(1)}}, tmp_path / "w.pth")
    assert read_state(tmp_path / "w.pth")["a"] == 1


def test_the_digest_of_a_module_follows_every_value() -> None:
    module = tiny("vit_small_patch16_224").bfloat16()
    before = state_digest(module)
    assert before == state_digest(tiny("vit_small_patch16_224").bfloat16())
    module.blocks[2].norm2.bias[-1] += 1
    assert state_digest(module) != before


def test_deit_tiny_of_the_shared_samples_gives_timms_features(shared: Path) -> None:
    from safetensors.torch import load_file

    from vitbench.backbones.load import load_backbone
    from vitbench.tokens.types import TokenRequest
    from vitbench.tokens.views import normalise

    file = shared / "data" / "weights" / "deit_tiny_patch16_224.safetensors"
    name = "deit_tiny_patch16_224.fb_in1k"
    backbone = load_backbone(name, weights={name: str(file)})
    reference = timm.create_model("deit_tiny_patch16_224")
    reference.load_state_dict(load_file(file))
    pictures = images(2, (224, 224))
    tokens = backbone.tokens(pictures, TokenRequest(("patch", "cls", "pixels")), ["a", "b"])
    stacked = torch.stack([torch.from_numpy(p).permute(2, 0, 1) for p in pictures])
    x = normalise(stacked, tokens.geometry, backbone.card.mean, backbone.card.std, torch.float32)
    expected = reference.eval().forward_features(x)
    assert torch.equal(tokens["patch"].flatten(1, 2), expected[:, 1:])
    assert torch.equal(tokens["cls"], expected[:, 0])
    assert view(reference).card.embed_dim == backbone.card.embed_dim
