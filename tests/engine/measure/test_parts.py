"""Time by part in the record of a run, and in a trace of some steps."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tuneoff.engine.measure.step_timer import STEP_PARTS, StepTimer
from tuneoff.results.record import PARTS
from tuneoff.results.store import RunFolder


class Clockwork:
    """A clock that is advanced by hand."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


def test_step_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clockwork()
    monkeypatch.setattr("tuneoff.engine.measure.step_timer.time", clock)
    step_timer = StepTimer(torch.device("cpu"))
    for _ in range(2):
        clock.now += 50  # between two steps
        step_timer.start()
        for part, seconds in zip(STEP_PARTS, (1, 2, 4, 8), strict=True):
            clock.now += seconds
            step_timer.record(part)
    assert step_timer.seconds == {"data": 2, "forward": 4, "backward": 8, "optimizer": 16}
    again = StepTimer(torch.device("cpu"))
    again.restore(step_timer.seconds)
    assert again.seconds == step_timer.seconds
    again.restore({})  # a checkpoint of an earlier version
    assert set(again.seconds.values()) == {0.0}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_step_timer_on_a_gpu_does_not_synchronise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneoff.engine.measure.step_timer._PENDING", 16)
    device = torch.device("cuda")
    step_timer, a = StepTimer(device), torch.randn(2048, 2048, device=device)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(20):
        step_timer.start()
        for part in STEP_PARTS:
            a @ a
            step_timer.record(part)
    end.record()
    found = step_timer.seconds
    assert all(seconds > 0 for seconds in found.values())
    assert sum(found.values()) <= begin.elapsed_time(end) / 1000


@pytest.mark.parametrize("name", ["full", "head", "tfidf", "baseline"])
def test_parts_add_up_to_the_total(run_toy: Any, name: str) -> None:
    cost = run_toy(name).record.cost
    parts = dict(cost.parts)
    assert set(parts) <= set(PARTS)
    assert parts.pop("tokenize") > 0  # part of the preparation, not of a run's total
    assert sum(parts.values()) == pytest.approx(cost.total_seconds)
    assert all(seconds >= 0 for seconds in parts.values())
    if name in ("full", "head"):
        steps = sum(parts[part] for part in STEP_PARTS)
        assert 0 < steps <= cost.seconds["train"]
        assert min(parts[part] for part in STEP_PARTS) > 0
        assert parts["save"] == cost.seconds["save"] + cost.seconds["checkpoint"]
    assert ("prefix" in parts) == (name == "head")


def test_profile_shows_operators_and_keeps_the_run_id(
    tuneoff: Any, tiny_model: Any, toy_csv: Any, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    asked = ["train", "--method", "lora", "--model", tiny_model("bert"), "--train", toy_csv(90)]
    asked += ["--epochs", 2, "--precision", "fp32", "--threads", 1, "--out", out]
    ended = tuneoff(*asked, "--profile")
    assert ended.code == 0, ended.err
    trace = json.loads(gzip.decompress((out / "profile" / "trace.json.gz").read_bytes()))
    names = {event.get("name") for event in trace["traceEvents"]}
    assert {"aten::addmm", "Optimizer.step#AdamW.step"} & names
    found = json.loads((out / "profile" / "operators.json").read_text())
    assert (found["first_step"], found["steps"]) == (4, 5)
    assert len(found["operators"]) == 10
    shares = [own["share"] for own in found["operators"]]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1 + 1e-9
    shown = ended.out[ended.out.index("operator") :].splitlines()
    assert len(shown[2:12]) == 10
    assert all(len(line) <= 80 for line in shown if not line.startswith("Trace:"))
    assert f"Trace: {out / 'profile' / 'trace.json.gz'}" in ended.out

    profiled = RunFolder(out).record()
    assert profiled is not None
    refused = tuneoff(*asked, "--profile")
    assert refused.code == 2
    assert "--fresh" in refused.err
    plain = tuneoff(*asked, "--fresh", "--json")
    assert json.loads(plain.out)["run_id"] == profiled.run_id
    assert not (out / "profile").exists()  # belongs to another training


def test_methods_without_steps_have_no_profile(
    tuneoff: Any, tiny_model: Any, toy_csv: Any, tmp_path: Path
) -> None:
    asked = ["train", "--method", "tfidf", "--model", tiny_model("bert"), "--train", toy_csv(60)]
    ended = tuneoff(*asked, "--out", tmp_path / "run", "--profile")
    assert ended.code == 2
    assert "no training steps" in ended.err
