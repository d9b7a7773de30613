"""`vitbench run` as a user types it: exit codes, one-line errors, resuming, two processes at once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.processes import left
from vitbench.cli import main

Run = Callable[..., subprocess.CompletedProcess[str]]
Spawn = Callable[..., subprocess.Popen[str]]
CELL = [
    "-b",
    "patch_colour",
    "-r",
    "none",
    "-t",
    "linear_segmentation",
    "-d",
    "scenes",
    "--limit",
    "4",
    "--workers",
    "0",
]
PATIENCE_S = 1800  # to see that something hangs, not to measure it


@pytest.fixture
def vitbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process, in an empty folder with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, int(stop.value.code or 0), out, err)

    return run


def environment(folder: Path) -> dict[str, str]:
    return {"VITBENCH_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "COLUMNS": "120"}


@pytest.fixture
def spawned(tmp_path: Path) -> Iterator[Spawn]:
    """The command line in a process of its own, which hears Ctrl-C; none outlives a test that fails."""
    started: list[subprocess.Popen[str]] = []
    env = {**os.environ, **environment(tmp_path)}

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "vitbench.cli", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, cwd=tmp_path, env=env, text=True, **pipes))
        return started[-1]

    # A shell that puts tests into the background has them ignore Ctrl-C, and all that they start.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield start
    signal.signal(signal.SIGINT, before)
    for process in started:
        if process.poll() is None:
            for one in (*psutil.Process(process.pid).children(recursive=True), process):
                with suppress(psutil.NoSuchProcess):
                    one.kill()
        process.communicate()


def one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """The command ended with that code and a single line of error that holds the words."""
    lines = done.stderr.strip().splitlines()
    assert done.returncode == code, done.stderr
    assert lines[-1].startswith("vitbench: "), done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[-1]


def test_a_run_ends_with_a_leaderboard_and_the_same_command_does_no_forwards(vitbench: Run, tmp_path: Path) -> None:
    first = vitbench("run", *CELL)
    assert first.returncode == 0, first.stderr
    assert "patch_colour" in first.stdout
    assert "8 forwards" in first.stdout
    again = vitbench("run", *CELL)
    assert again.returncode == 0
    assert "1 cached" in again.stdout
    assert " 0 forwards" in again.stdout
    assert len(list((tmp_path / "runs").rglob("*.json"))) == len(list((tmp_path / "runs").rglob("*.parquet"))) == 1


def test_two_processes_with_the_same_plan_do_the_work_once(spawned: Spawn, tmp_path: Path) -> None:
    both = [spawned("run", *CELL) for _ in range(2)]
    outputs = [p.communicate(timeout=PATIENCE_S)[0] for p in both]
    assert [p.returncode for p in both] == [0, 0]
    assert sum(int(re.findall(r"(\d+) forwards", text)[-1]) for text in outputs) == 8
    assert len(list((tmp_path / "runs").rglob("*.json"))) == 1


WAITING = """
import time
from pathlib import Path
from vitbench.catalogue import REPAIRS
from vitbench.catalogue.cards import RepairCard
from vitbench.repairs.base import Repair

class Waiting(Repair):
    card = RepairCard("waiting", None, REPAIRS.get("none").params, "map", ("patch",), "waits for a file")

    def map_field(self, x, state, tokens, name):
        Path("begun").touch()
        while not Path("go").exists():
            time.sleep(0.05)
        return x
"""


CACHED = "linear_segmentation[image_px=32]"
STREAMED = "linear_segmentation@dinov2[iterations=3,batch=2,crop_px=32,stride_px=32,short_px=32,image_px=32]"


@pytest.mark.parametrize("sent, name", [(signal.SIGINT, CACHED), (signal.SIGTERM, CACHED), (signal.SIGINT, STREAMED)])
def test_ctrl_c_and_terminate_are_exit_code_130_and_the_same_command_goes_on(
    spawned: Spawn, tmp_path: Path, sent: int, name: str
) -> None:
    (tmp_path / "waiting.py").write_text(WAITING)
    colours = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    for split in ("train", "val"):
        for i, colour in enumerate(colours):
            for kind, values in (("images", colour), ("masks", colour[..., 0] % 2)):
                (tmp_path / "mine" / split / kind).mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(tmp_path / "mine" / split / kind / f"{i}.png")
    task = ("-t", name, "-d", "folder:mine", "--workers", "1", "--decoders", "1")
    arguments = ["run", "-b", "patch_colour", "-r", "waiting", *task, "--plugin", "waiting.py"]
    process = spawned(*arguments)
    while not (tmp_path / "begun").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) >= 3, "a worker, a process that decodes, and their trackers"
    process.send_signal(sent)
    _, err = process.communicate(timeout=PATIENCE_S)  # until the last worker has closed its end too
    assert (process.returncode, "the same command goes on" in err) == (130, True), err
    assert not left(below), "nothing is left behind"
    (tmp_path / "go").touch()
    again = spawned(*arguments)
    out, err = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, err
    assert "1 ok" in out


DEADLY = """
import os, signal
from vitbench.catalogue import REPAIRS
from vitbench.catalogue.cards import RepairCard
from vitbench.repairs.base import Repair

class Deadly(Repair):
    card = RepairCard("deadly", None, REPAIRS.get("none").params, "map", ("patch",), "kills its process")

    def map_field(self, x, state, tokens, name):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_that_is_killed_fails_its_cell_and_the_run_goes_on(spawned: Spawn, tmp_path: Path) -> None:
    (tmp_path / "deadly.py").write_text(DEADLY)
    process = spawned("run", *CELL[:3], "deadly,none", *CELL[4:-1], "1", "--plugin", "deadly.py")
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, err
    assert "1 ok, 1 failed" in out, err
    assert "oom: patch_colour / deadly" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], ["--all"]),
        (["run", "-b", "lab_sll"], ["lab_sll", "did you mean", "lab_ssl"]),
        (["run", "-b", "patch_colour", "-r", "zcore"], ["zcore", "zscore"]),
        (["run", "-b", "patch_colour", "-r", "zscore[m=3]"], ["no parameter 'm'"]),
        (["run", "-b", "patch_colour", "-t", "depth@rigde"], ["rigde", "ridge"]),
        (["run", "-b", "patch_colour+grd"], ["grd", "grid"]),
        (["run", "--suite", "labb"], ["labb", "lab"]),
        (["run", "--all", "--limit", "0"], ["--limit 0"]),
        (["run", "--all", "--weights", "lab_ssl"], ["NAME=PATH"]),
        (["run", "--all", "--plugin", "no.py"], ["no.py"]),
        (["run", "--al"], ["--al"]),
        (["show", "zscor"], ["zscore"]),
    ],
    ids=lambda a: " ".join(a) if isinstance(a, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(vitbench: Run, arguments: list[str], words: list[str]) -> None:
    one_line(vitbench(*arguments), 2, *words)


def test_an_empty_selection_is_exit_code_3(vitbench: Run) -> None:
    one_line(vitbench("run", "--suite", "lab", "-b", "lab_mae", "-r", "zscore"), 3, "no cell")


def test_a_suite_with_an_unknown_key_names_file_and_key(vitbench: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('name = "mine"\nselekt = 3\n')
    one_line(vitbench("run", "--suite", "mine.toml"), 2, "mine.toml", "selekt")


def test_weights_that_are_not_here_are_unavailable_with_the_remedy(vitbench: Run) -> None:
    done = vitbench("run", "-b", "vit_small_patch16_224.dino", *CELL[2:], "--offline")
    assert done.returncode == 3
    assert "--weights" in done.stderr
    assert "unavailable" in done.stdout


def test_a_missing_dataset_is_unavailable_with_the_layout(vitbench: Run) -> None:
    done = vitbench("run", *CELL[:6], "-d", "folder:nowhere")
    assert done.returncode == 3, done.stderr
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def folder(root: Path, count: int = 4, size: tuple[int, int] = (48, 64)) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            mask = np.zeros(size, np.uint8)
            mask[:, : size[1] // 2] = 1
            pixels = rng.integers(0, 60, (*size, 3)) + 120 * mask[..., None]
            Image.fromarray(pixels.astype(np.uint8)).save(root / split / "images" / f"{i}.png")
            Image.fromarray(mask).save(root / split / "masks" / f"{i}.png")
    return root


def test_own_images_in_odd_formats_run_and_an_unreadable_one_fails_the_cell_by_name(
    vitbench: Run, tmp_path: Path
) -> None:
    root = folder(tmp_path / "photos")
    image = Image.open(root / "train" / "images" / "0.png")
    image.convert("RGBA").save(root / "train" / "images" / "0.png")
    image.convert("L").save(root / "train" / "images" / "1.png")
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(root / "train" / "images" / "2.png")
    arguments = [
        "-b",
        "patch_colour",
        "-r",
        "none",
        "-t",
        "linear_segmentation[image_px=32]",
        "-d",
        f"folder:{root}",
        "--workers",
        "0",
    ]
    good = vitbench("run", *arguments)
    assert good.returncode == 0, good.stderr
    (root / "val" / "images" / "3.png").write_bytes(b"not an image")
    bad = vitbench("run", *arguments)
    assert bad.returncode == 1, bad.stdout + bad.stderr
    assert "3.png" in bad.stderr
    assert "Traceback" not in bad.stderr


def test_a_records_folder_that_cannot_be_written_is_exit_code_2(vitbench: Run, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    one_line(vitbench("run", *CELL, "--records", "taken"), 2, "taken", "--records")


def test_list_as_json_has_names(vitbench: Run) -> None:
    import json

    for kind in ("backbones", "defects", "repairs", "tasks", "protocols", "datasets", "suites"):
        rows = json.loads(vitbench("list", kind, "--json").stdout)
        assert rows
        assert all(row["name"] for row in rows)


def test_doctor_and_cache_report(vitbench: Run) -> None:
    vitbench("run", *CELL, "--workers", "0")
    assert "1 parts" in vitbench("cache", "ls").stdout or "2 parts" in vitbench("cache", "ls").stdout
    assert vitbench("cache", "verify").returncode == 0
    assert "freed" in vitbench("cache", "gc").stdout
    assert "0 parts" in vitbench("cache", "ls").stdout
    assert "suites: " in vitbench("doctor").stdout


def test_check_tells_which_promises_a_repair_keeps(vitbench: Run, tmp_path: Path) -> None:
    good = vitbench("check", "repair", "zscore")
    assert (good.returncode, "broken" in good.stdout) == (0, False)
    (tmp_path / "leaky.py").write_text(LEAKY)
    bad = vitbench("check", "repair", "leaky", "--plugin", "leaky.py")
    assert bad.returncode == 1
    assert "broken  batch" in bad.stdout


def test_check_tells_which_promises_a_backbone_and_a_task_keep(vitbench: Run, tmp_path: Path) -> None:
    good = vitbench("check", "backbone", "patch_colour")
    assert (good.returncode, "broken" in good.stdout) == (0, False)
    (tmp_path / "blind.py").write_text(BLIND)
    bad = vitbench("check", "task", "blind", "--plugin", "blind.py")
    assert bad.returncode == 1
    assert "broken  tokens_of_other_images_say_less: it does not look at the tokens" in bad.stdout
    several = vitbench("check", "task", "depth@*")
    assert (several.returncode, "name one: TASK@PROTOCOL" in several.stderr) == (2, True)


BLIND = """
from vitbench.catalogue.cards import Protocol, TaskCard, TaskSettings
from vitbench.records.rows import Measure
from vitbench.tasks.base import Task
from vitbench.tasks.units import UnitRows

class Blind(Task):
    card = TaskCard(
        name="blind", entry=None, title="Blind", family="dense", splits=("val",),
        metric=(Measure("n", "", True, lambda sums, info: sums["n"] / sums["n"]),), headline="n",
        protocols=(Protocol("one", version=1, settings=TaskSettings(image_px=32), summary="counts images"),),
    )

    def measure(self, head, test, context):
        units = UnitRows()
        for key in test.keys:
            units.add(key, {"n": 1.0})
        return units.rows()
"""


LEAKY = """
from vitbench.catalogue import REPAIRS
from vitbench.catalogue.cards import RepairCard
from vitbench.repairs.base import Repair

class Leaky(Repair):
    card = RepairCard("leaky", None, REPAIRS.get("none").params, "map", ("patch",), "sees the other samples of its batch")

    def map_field(self, x, state, tokens, name):
        return x - x.mean(0, keepdim=True)
"""


RAISING = LEAKY.replace("leaky", "raising").replace("return x - x.mean(0, keepdim=True)", "return x @ x")


def test_a_repair_that_raises_is_named_with_its_line_and_where_the_traceback_is(vitbench: Run, tmp_path: Path) -> None:
    (tmp_path / "raising.py").write_text(RAISING)
    done = vitbench("run", *CELL[:3], "none,raising", *CELL[4:], "--plugin", "raising.py")
    assert done.returncode == 1
    assert "RuntimeError: " in done.stderr
    assert "(raising.py:10)" in done.stderr
    path = re.findall(r"tracebacks are in the records, under `error`: (.*)", done.stderr)[0]
    assert "raising.py" in (tmp_path / path).read_text()
