"""A resumed run has the same result as an uninterrupted one, bit for bit.

A sample of the methods and of the steps at which they are interrupted runs by default; `make grid`
runs all of them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tuneoff.engine.training import stop
from tuneoff.engine.training.checkpoint import KEPT, BestCheckpoint, Checkpoints, Point

RunToy = Callable[..., Any]
ToyTask = Callable[..., Any]


def weights_of(made: Any) -> dict[str, torch.Tensor]:
    (file,) = (
        f for f in made.folder.model.glob("*.safetensors") if f.name != "training_args.safetensors"
    )
    return load_file(file)


def assert_equal(one: Any, other: Any) -> None:
    assert one.record.status == other.record.status == "finished"
    first, second = weights_of(one), weights_of(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert one.folder.predictions().equals(other.folder.predictions())
    assert one.record.best_epoch == other.record.best_epoch
    kept = ("kind", "step", "epoch", "loss", "learning_rate", "macro_f1")
    histories = [
        [{k: v for k, v in row.items() if k in kept} for row in made.folder.history()]
        for made in (one, other)
    ]
    assert histories[0] == histories[1]


def interrupted_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a signal in this step; the engine handles it as usual."""
    done = [0]

    def asked_to() -> bool:
        done[0] += 1
        if done[0] == step:
            stop._asked.append(15)
        return bool(stop._asked)

    monkeypatch.setattr(stop, "asked_to", asked_to)


@pytest.fixture(autouse=True)
def _no_signal() -> Any:
    yield
    stop._asked.clear()


# 60 rows: 43 for training, 3 steps per epoch. First step, end of an epoch, last step.
STEPS = (1, 3, 5, 9)
RESUMED: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("full", {"precision": "bf16"}, STEPS),
    ("lora", {"config": {"dropout": 0.1}}, (5,)),
    ("adalora", {"config": {"warmup": 0.1, "settle": 0.2, "interval": 1}}, (3, 5)),
    ("full", {"config": {"unfreeze": "gradual"}, "micro_batch_tokens": 60}, (3, 5)),
    ("pissa", {}, (5,)),
    ("partial", {"config": {"k": 1}, "early_stopping_patience": 1}, (3, 9)),
    ("qlora", {}, (5,)),
]
"""Methods, their settings, and the steps of the sample."""


def cells() -> Iterator[Any]:
    """Yield every method with every step; combinations outside the sample are marked `grid`."""
    for name, options, sample in RESUMED:
        for step in STEPS:
            marks = () if step in sample else pytest.mark.grid
            yield pytest.param(name, options, step, marks=marks)


@pytest.mark.parametrize(("name", "options", "step"), list(cells()))
def test_resumed_run_equals_uninterrupted_run(
    run_toy: RunToy,
    toy_task: ToyTask,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    options: dict[str, Any],
    step: int,
) -> None:
    if name == "qlora":
        pytest.importorskip("bitsandbytes")
    task = toy_task("bert")
    options = {"task": task, "epochs": 3, **options}
    uninterrupted = run_toy(name, **options)
    kept = shutil.copytree(uninterrupted.folder.path, uninterrupted.folder.path.with_name("whole"))
    shutil.rmtree(uninterrupted.folder.path)
    uninterrupted.folder.path.mkdir()

    with monkeypatch.context() as patched:
        interrupted_at(step, patched)
        broken = run_toy(name, **options)
    if step < 9 or name != "partial":  # partial may have stopped early
        assert broken.record.status == "interrupted"
        assert "rerun the same command to resume" in broken.record.error
        assert broken.folder.checkpoint.is_dir()
        assert broken.record.quality.test is None
    stop._asked.clear()

    again = run_toy(name, **options)
    assert not again.folder.checkpoint.exists()
    uninterrupted.folder.__init__(kept)  # type: ignore[misc]
    assert_equal(again, uninterrupted)


def test_checkpoints_do_not_change_the_result(run_toy: RunToy, toy_task: ToyTask) -> None:
    task = toy_task("bert")
    often = run_toy("full", task=task, epochs=2, checkpoint_seconds=0.0)
    kept = shutil.copytree(often.folder.path, often.folder.path.with_name("often"))
    never = run_toy("full", task=task, epochs=2)
    assert never.folder.path == often.folder.path  # the interval is not part of the run id
    often.folder.__init__(kept)
    assert_equal(often, never)


def points(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def point(step: int) -> Point:
    return Point({"w": torch.full((3,), float(step))}, {"step": step, "large": 2**127 + step})


def test_last_checkpoints_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    found = Checkpoints(tmp_path, "run", 60.0)
    assert found.latest() is None
    for step in (1, 2, 30):
        found.save(step, point(step))
    assert points(tmp_path) == ["step-00000002", "step-00000030"]
    assert len(points(tmp_path)) == KEPT
    latest = found.latest()
    assert latest is not None
    assert latest.state == point(30).state
    assert torch.equal(latest.tensors["w"], point(30).tensors["w"])
    assert Checkpoints(tmp_path, "another run", 60.0).latest() is None


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json"])
@pytest.mark.parametrize("how", ["cut", "altered", "missing", "empty"])
def test_incomplete_or_modified_checkpoint_is_skipped(tmp_path: Path, file: str, how: str) -> None:
    found = Checkpoints(tmp_path, "run", 60.0)
    for step in (1, 2):
        found.save(step, point(step))
    victim = tmp_path / "step-00000002" / file
    data = bytearray(victim.read_bytes())
    if how == "missing":
        victim.unlink()
    elif how == "cut":
        victim.write_bytes(data[:-3])
    elif how == "empty":
        victim.write_bytes(b"")
    else:
        data[-2] ^= 1
        victim.write_bytes(data)
    latest = found.latest()
    assert latest is not None
    assert latest.state["step"] == 1
    shutil.rmtree(tmp_path / "step-00000001")
    assert found.latest() is None


def corruptions(data: bytes) -> Iterator[bytes]:
    """Yield the content truncated at every length, and with each single bit changed."""
    for place in range(len(data)):
        yield data[:place]
        for bit in range(8):
            yield data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


@pytest.mark.parametrize("file", ["tensors.safetensors", "state.json"])
def test_any_cut_and_any_bit_of_a_checkpoint_is_detected(tmp_path: Path, file: str) -> None:
    found = Checkpoints(tmp_path, "run", 60.0)
    found.save(1, point(1))
    victim = tmp_path / "step-00000001" / file
    data = victim.read_bytes()
    assert found.latest() is not None
    for altered in corruptions(data):
        victim.write_bytes(altered)
        assert found.latest() is None
    victim.write_bytes(data)
    assert found.latest() is not None


def test_any_cut_and_any_bit_of_the_best_weights_is_detected(tmp_path: Path) -> None:
    BestCheckpoint(tmp_path, "accuracy").offer(1, 0.5, {"w": torch.ones(3)})
    (victim,) = tmp_path.glob("best-*.safetensors")
    data = victim.read_bytes()
    best = BestCheckpoint(tmp_path, "accuracy")
    assert best.go_on(1, 0.5, victim.name)
    for altered in corruptions(data):
        victim.write_bytes(altered)
        assert not best.go_on(1, 0.5, victim.name)
    assert best.go_on(None, None, None)  # no best epoch is expected


def test_best_weights_named_by_the_checkpoint_are_used(tmp_path: Path) -> None:
    best = BestCheckpoint(tmp_path, "accuracy")
    best.offer(1, 0.5, {"w": torch.ones(3)})
    first = best.kept
    older = (tmp_path / str(first)).read_bytes()
    best.offer(2, 0.6, {"w": torch.zeros(3)})
    (tmp_path / str(first)).write_bytes(older)  # a power failure has undone the removal
    for name, epoch, value in ((first, 1, 1.0), (best.kept, 2, 0.0)):
        again = BestCheckpoint(tmp_path, "accuracy")
        assert again.go_on(epoch, 0.5, name)
        again.restore(found := {"w": torch.full((3,), 9.0)})
        assert found["w"].tolist() == [value] * 3


def test_checkpoint_interval(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path, "run", 0.0).due()
    assert not Checkpoints(tmp_path, "run", 60.0).due()
