"""Run every method on a tiny BERT, and compare its logits with those on the CPU."""

from __future__ import annotations

import os
import shutil
import signal
import time
from importlib.util import find_spec
from typing import Any

import torch
from blocks import METHOD_SHARES
from check import Check
from models import tiny_model, toy_file
from safetensors.torch import load_file

from engine import Material, after_each_step, prepared, run_method
from tuneoff.engine.execute import check_saved
from tuneoff.engine.model.saved import load_trained
from tuneoff.engine.training import stop
from tuneoff.engine.verification.after_training import TOLERANCE, sample_logits
from tuneoff.methods import method as registered
from tuneoff.methods import methods as all_methods
from tuneoff.results.store import RunFolder
from tuneoff.scheduling import bitsandbytes

RESUMED = ("full", "lora", "adalora")
INTERRUPTED_AT = 5
"""Step after which the run is interrupted, in the first epoch."""

CPU = torch.device("cpu")


def _settings(check: Check) -> dict[str, Any]:
    """Return the training settings except for the precision."""
    return {"epochs": 4 if check.on_gpu else 2, "batch_size": 8, "device": check.device_type}


def _material(check: Check, name: str) -> Material:
    model = tiny_model(check.work)
    file = toy_file(check.work, "methods", 90)
    return prepared(check.work / f"data-{name}", model, 64, train=str(file))


def methods(check: Check, share: int) -> None:
    """Run every `METHOD_SHARES`-th method in bf16."""
    names = list(all_methods())[share::METHOD_SHARES]
    material = _material(check, f"methods-{share}")
    finished = sum(_one(check, material, name, "bf16") for name in names)
    check.summary = f"{finished} of {len(names)} methods finished without a problem"


def precisions(check: Check) -> None:
    """Run three methods in fp16, and `full` in float32."""
    material = _material(check, "precisions")
    cases = [(name, "fp16") for name in RESUMED] + [("full", "fp32")]
    finished = sum(_one(check, material, name, precision) for name, precision in cases)
    check.summary = f"{finished} of {len(cases)} runs in fp16 and fp32 without a problem"


def _one(check: Check, material: Material, name: str, precision: str) -> bool:
    """Run a method with all checks, and return whether there was no problem."""
    title = f"{name} {precision}"
    if name == "qlora":
        bitsandbytes.reveal()
    if name == "qlora" and find_spec("bitsandbytes") is None:
        check.note(title, "not run: bitsandbytes is not installed")
        return True
    before, start = len(check.problems), time.perf_counter()
    with check.part(title):
        folder = check.work / "runs" / title.replace(" ", "-")
        record, at = run_method(material, folder, name, precision=precision, **_settings(check))
        found: dict[str, Any] = {"status": record.status, "error": record.error}
        found["parts"] = {k: round(v, 3) for k, v in record.cost.parts.items()}
        check.note(title, found)
        check.expect(record.status == "finished", f"{title}: {record.status}: {record.error}")
        if record.status == "finished":
            found |= _compared(check, material, at, title)
        found["seconds"] = round(time.perf_counter() - start, 2)
        check.note(title, found)
    return len(check.problems) == before


def _compared(check: Check, material: Material, at: RunFolder, title: str) -> dict[str, Any]:
    """Check the run and its saved model, and compare its logits with those of a CPU in float32."""
    first = at.record()
    assert first is not None
    found: dict[str, Any] = {"warnings": first.warnings}
    if first.quality.test is not None:
        found |= {"accuracy": first.quality.test.accuracy, "log_loss": first.quality.test.log_loss}
    losses = [row["loss"] for row in at.history() if row["kind"] == "train"]
    if losses:
        found |= {"first_loss": losses[0], "last_loss": losses[-1]}
    if first.checks is None:
        return found  # no encoder
    quantized = registered(first.method.method).quantized
    logits = load_file(at.sample_file)["logits"]
    again = load_trained(at.model, quantized=quantized, dtype=torch.float32, device=CPU)
    on_cpu = sample_logits(again, material.task.splits["validation"], CPU)
    error = float((logits - on_cpu).abs().max()) / max(float(on_cpu.std()), 1e-6)
    precision = "bf16" if quantized else first.train["precision"]
    found |= {
        "logits_error": error,
        "logits_tolerance": TOLERANCE[precision],
        "same_answers": int((logits.argmax(1) == on_cpu.argmax(1)).sum()),
        "answers": len(logits),
    }
    check.expect(
        error <= TOLERANCE[precision],
        f"{title}: logits differ from the CPU's by {error:.3g} standard deviations",
    )
    check_saved(at, material.folder)
    record = at.record()
    assert record is not None
    assert record.checks is not None
    for problem in record.checks.problems:
        check.expect(False, f"{title}: {problem}")
    if record.checks.reopened is not None:
        found["reopened"] = record.checks.reopened.logits
    if record.checks.merged is not None:
        found["merged"] = record.checks.merged.logits
    return found


GRAPHED = ("full", "lora", "partial", "head", "qlora")


def graphs(check: Check) -> None:
    """Compare steps replayed as CUDA graphs with the same steps launched kernel by kernel."""
    check.need_gpu()
    material, good = _material(check, "graphs"), 0
    for name in GRAPHED:
        if name == "qlora":
            bitsandbytes.reveal()
            if find_spec("bitsandbytes") is None:
                continue
        before = len(check.problems)
        with check.part(name):
            check.note(name, _replayed(check, material, name))
        good += len(check.problems) == before
    check.summary = f"{good} of {len(GRAPHED)} methods have equal predictions with CUDA graphs"


def _replayed(check: Check, material: Material, name: str) -> dict[str, Any]:
    settings = {**_settings(check), "epochs": 20, "precision": "bf16"}
    found: dict[str, Any] = {}
    probabilities, losses = [], []
    for part, on in (("replayed", True), ("eager", False), ("eager again", False)):
        folder = check.work / "graphs" / name / part.replace(" ", "-")
        record, at = run_method(material, folder, name, cuda_graphs=on, **settings)
        check.expect(record.status == "finished", f"{name}, {part}: {record.error}")
        probabilities.append(_probabilities(at))
        losses.append([row["loss"] for row in at.history() if row["kind"] == "train"])
        graphed = record.cost.parts.get("graph", 0.0)
        found[part] = {
            "train_seconds": record.cost.train_seconds,
            "graph_seconds": graphed,
            "last_loss": losses[-1][-1],
        }
        check.expect((graphed > 0) == on, f"{name}, {part}: {graphed} s in CUDA graphs")
    difference, noise = (
        float(abs(x - probabilities[1]).max()) for x in (probabilities[0], probabilities[2])
    )
    found |= {"difference": difference, "repeated_difference": noise}
    check.expect(
        difference <= max(2 * noise, 0.05),
        f"{name}: with graphs probabilities differ by {difference:.2g}, repeated by {noise:.2g}",
    )
    return found


def resume(check: Check) -> None:
    """Compare a run that was interrupted by SIGTERM and resumed with an uninterrupted one."""
    material, good = _material(check, "resume"), 0
    for name in RESUMED:
        before = len(check.problems)
        with check.part(name):
            check.note(name, _resumed(check, material, name))
        good += len(check.problems) == before
    check.summary = f"{good} of {len(RESUMED)} methods resumed to the same predictions"


def _resumed(check: Check, material: Material, name: str) -> dict[str, Any]:
    settings = {**_settings(check), "precision": "bf16"}
    config = {"warmup": 0.1, "settle": 0.2, "interval": 1} if name == "adalora" else {}
    folder = check.work / "resume" / name
    uninterrupted, repeated = (
        _probabilities(run_method(material, folder / part, name, config=config, **settings)[1])
        for part in ("whole", "repeated")
    )

    def interrupt(step: int) -> None:
        if step == INTERRUPTED_AT:
            os.kill(os.getpid(), signal.SIGTERM)

    own = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with after_each_step(interrupt):
            interrupted, at = run_method(
                material, folder / "broken", name, config=config, own_process=True, **settings
            )
    finally:
        stop._asked.clear()  # in a study, the process would end here
        for number, handler in own.items():
            signal.signal(number, handler)
    check.expect(
        interrupted.status == "interrupted", f"{name}: {interrupted.status}, not interrupted"
    )
    check.expect(at.checkpoint.is_dir(), f"{name}: the interrupted run left no checkpoint")
    again, at = run_method(material, folder / "broken", name, config=config, **settings)
    check.expect(again.status == "finished", f"{name}: {again.status}: {again.error}")
    resumed = _probabilities(at)
    noise, difference = (float(abs(x - uninterrupted).max()) for x in (repeated, resumed))
    check.expect(
        difference <= max(2 * noise, 1e-6),
        f"{name}: resumed, probabilities differ by {difference:.2g}; repeated, by {noise:.2g}",
    )
    shutil.rmtree(folder)
    return {"resumed_difference": difference, "repeated_difference": noise}


def _probabilities(at: RunFolder) -> Any:
    """Return the probabilities that the run has written, (rows, labels)."""
    table = at.predictions()
    return table[[c for c in table if c.startswith("probability_")]].to_numpy()
