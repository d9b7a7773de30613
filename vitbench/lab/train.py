"""The recipe that made the lab's weights: `python -m vitbench.lab.train lab_ssl --steps N --seed 0 --out DIR`.

Every step draws its batch and its randomness from (seed, step) alone, so a run that is stopped and resumed ends in
the same weights as one that is not. Objectives are in `objectives.py`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from timm.models.eva import Eva, EvaBlock
from torch import nn

from vitbench.backbones.lab import build_lab_vit, start_with_edges
from vitbench.backbones.sparse import attending_sparsely
from vitbench.backbones.timm import lab_view
from vitbench.catalogue import BACKBONES
from vitbench.data import scenes
from vitbench.lab.objectives import MaskedImages, Objective, StylePairs, Supervised
from vitbench.lab.pool import PoolScene, render_pool, sample_crops
from vitbench.lab.probe import probe, probe_scenes

CALIBRATION_STEPS = 20  # behind which --minutes becomes a number of steps


@dataclass(frozen=True)
class Recipe:
    """What is trained and how; all models share the optimiser."""

    objective: type[Objective]
    registers: int = 0
    steps: int = 1300
    sides: tuple[int, ...] = (64, 80, 96)  # crops in px; the batch shrinks so that a step has as many tokens
    last_sides: tuple[int, ...] = (128, 192)  # in the last part of the training
    last_part: float = 0.15
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.05
    warmup: int = 100
    tokens: int = 2560  # patches a step
    sparse: bool = False  # entmax-1.5 in place of softmax, in student and teacher


RECIPES: dict[str, Recipe] = {
    "lab_ssl": Recipe(StylePairs),
    "lab_ssl_reg4": Recipe(StylePairs, registers=4),
    "lab_ssl_entmax": Recipe(StylePairs, sparse=True),
    "lab_sup": Recipe(Supervised, steps=1000),
    "lab_mae": Recipe(MaskedImages, sides=(96, 128), steps=4000),
}


@dataclass
class Run:
    """The state of a training."""

    name: str
    seed: int
    steps: int
    student: Eva
    objective: Objective
    optimiser: torch.optim.AdamW
    step: int = 0
    seconds: float = 0.0
    images: int = 0
    losses: list[float] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write everything that the next step depends on."""
        state = {
            "name": self.name,
            "seed": self.seed,
            "steps": self.steps,
            "step": self.step,
            "seconds": self.seconds,
            "images": self.images,
            "student": self.student.state_dict(),
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def resume(self, path: Path) -> None:
        """Read what `save` wrote; raises ValueError for the checkpoint of another run."""
        state = torch.load(path, weights_only=True)
        if (state["name"], state["seed"]) != (self.name, self.seed):
            raise ValueError(f"{path} is a checkpoint of {state['name']} with seed {state['seed']}")
        self.student.load_state_dict(state["student"])
        self.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.steps, self.step = state["steps"], state["step"]
        self.seconds, self.images = state["seconds"], state["images"]


def start(name: str, seed: int, steps: int | None = None) -> Run:
    """A fresh run of a recipe."""
    recipe = RECIPES[name]
    torch.manual_seed(seed)
    student = build_lab_vit(recipe.registers)
    start_with_edges(student)
    objective = recipe.objective(student)
    trained = [*student.parameters(), *(p for p in objective.parameters() if p.requires_grad)]
    groups = [
        {"params": [p for p in trained if p.ndim > 1 and p.shape[0] > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1 or p.shape[0] == 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))
    return Run(name, seed, steps or recipe.steps, student, objective, optimiser)


def train_step(run: Run, pool: list[PoolScene]) -> float:
    """One step of the optimiser; returns the loss."""
    recipe, progress = RECIPES[run.name], run.step / run.steps
    rng = np.random.default_rng((run.seed, run.step))
    torch.manual_seed(run.seed * 1_000_003 + run.step)
    side = int(rng.choice(recipe.last_sides if progress >= 1 - recipe.last_part else recipe.sides))
    batch = max(2, recipe.tokens // (side // 8) ** 2)
    crops = sample_crops(pool, rng, batch, side)
    for group in run.optimiser.param_groups:
        group["lr"] = learning_rate(recipe, run.step, run.steps)
    run.student.train()
    with torch.autocast("cpu", torch.bfloat16), _attention(run, recipe):
        loss = run.objective.loss(run.student, crops)
    run.optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_([p for g in run.optimiser.param_groups for p in g["params"]], 1.0)
    run.optimiser.step()
    run.step += 1
    run.images += batch
    run.objective.after_step(run.student, run.step / run.steps)
    return loss.item()


def _attention(run: Run, recipe: Recipe) -> AbstractContextManager[None]:
    if not recipe.sparse:
        return nullcontext()
    models = (run.student, run.objective)
    return attending_sparsely(m for model in models for m in model.modules() if isinstance(m, EvaBlock))


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to 1 % of the peak."""
    warmup = min(recipe.warmup, max(1, steps // 10))
    cosine = 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / steps))
    return recipe.learning_rate * min(1.0, (step + 1) / warmup) * (0.01 + 0.99 * cosine)


def export(run: Run, path: Path) -> None:
    """The student's weights under timm's names, float16."""
    weights = {name: value.half().contiguous() for name, value in run.student.state_dict().items()}
    save_file(weights, path, metadata={"model": run.name, "step": str(run.step), "scenes": str(scenes.VERSION)})


def main(arguments: Sequence[str] | None = None) -> None:
    """Train one model; a checkpoint in the output folder is resumed."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    run = start(options.model, options.seed, options.steps)
    checkpoint = out / f"{run.name}.ckpt"
    if checkpoint.exists():
        run.resume(checkpoint)
        print(f"resuming {run.name} at step {run.step} of {run.steps}", flush=True)
    pool = render_pool(options.scenes)
    data = probe_scenes() if options.probe_seconds > 0 else None
    _loop(run, pool, data, options, checkpoint)
    export(run, out / f"{run.name}.safetensors")
    _describe(run, options)


def _loop(
    run: Run, pool: list[PoolScene], data: list[scenes.Scene] | None, options: argparse.Namespace, checkpoint: Path
) -> None:
    log = options.out / f"{run.name}.log.jsonl"
    begun, probed = time.monotonic() - run.seconds, run.seconds
    first = run.step
    while run.step < run.steps:
        run.losses.append(train_step(run, pool))
        run.seconds = time.monotonic() - begun
        if options.minutes and options.steps is None and first == 0 and run.step == CALIBRATION_STEPS:
            run.steps = max(run.step + 1, round(options.minutes * 60 * run.step / run.seconds))
        if run.step in options.save_steps:
            export(run, options.out / f"{run.name}-{run.step}.safetensors")
        if run.step % options.log_every and run.step < run.steps:
            continue
        line: dict[str, float | int] = {"step": run.step, "steps": run.steps}
        line |= {"loss": round(float(np.mean(run.losses)), 4), "images": run.images, "seconds": round(run.seconds, 1)}
        line["images_per_second"] = round(run.images / run.seconds, 1)
        run.losses.clear()
        if data is not None and (run.seconds - probed > options.probe_seconds or run.step == run.steps):
            paused = time.monotonic()
            line |= probe(lab_view(run.student, BACKBONES.get(run.name)), data)
            run.save(checkpoint)
            begun += time.monotonic() - paused
            probed = run.seconds
        with log.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        print(line, flush=True)
    run.save(checkpoint)


def _describe(run: Run, options: argparse.Namespace) -> None:
    recipe = asdict(RECIPES[run.name])
    recipe["objective"] = RECIPES[run.name].objective.__name__
    done = {
        "model": run.name,
        "seed": run.seed,
        "steps": run.step,
        "images": run.images,
        "training_minutes": round(run.seconds / 60, 1),
        "threads": options.threads,
        "device": "cpu",
        "dtype": "bfloat16 autocast",
        "pool": {"seed": 1, "scenes": options.scenes, "styles": 2},
        "scenes_version": scenes.VERSION,
        "parameters": sum(p.numel() for p in run.student.parameters()),
        "torch": str(torch.__version__),
        "recipe": recipe,
    }
    (options.out / f"{run.name}.json").write_text(json.dumps(done, indent=2) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vitbench.lab.train", description=main.__doc__)
    parser.add_argument("model", choices=sorted(RECIPES))
    parser.add_argument("--steps", type=int, help="length of the training; the recipe's, if not given")
    parser.add_argument("--minutes", type=float, help="choose the steps so that training takes about this long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, log and checkpoint")
    parser.add_argument("--save-steps", type=int, nargs="*", default=[], help="also export the weights at these steps")
    parser.add_argument("--scenes", type=int, default=2000, help="scenes in the pool")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log-every", type=int, default=50)
    parser.add_argument("--probe-seconds", type=float, default=240, help="between probes; 0: none")
    return parser


if __name__ == "__main__":
    main()
