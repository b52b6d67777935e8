"""Check runs with too little GPU memory: smaller micro-batches, or a record that says so."""

from __future__ import annotations

from typing import Any

import torch
from check import Check
from models import middle_model, toy_file

from engine import Material, prepared, run_method
from tuneoff.engine.model.out_of_memory import release_memory

SETTINGS: dict[str, Any] = {"epochs": 1, "batch_size": 64, "precision": "bf16", "device": "cuda"}


def memory(check: Check) -> None:
    """Run without a limit, then with limits for training, for evaluation, and for the weights."""
    check.need_gpu()
    model = middle_model(check.work)
    long, few = (500, 510), {"train": 256, "test": 24}
    train = toy_file(check.work, "long-train", few["train"], words=long)
    test = toy_file(check.work, "long-test", few["test"], words=long, seed=1)
    many = toy_file(check.work, "long-many", 512, words=long, seed=2)
    one = prepared(check.work / "data-memory", model, 512, train=str(train), test=str(test))
    two = prepared(check.work / "data-memory", model, 512, train=str(train), test=str(many))

    free = _limited(check, one, "no limit", None)
    peak, weights = free["train_peak"], free["weights"]
    check.expect(free["status"] == "finished", f"no limit: {free['status']}: {free['error']}")
    # In addition to tensors, the allocator needs workspaces of cuBLAS and fragmented memory.
    spare = 96 << 20
    limits = {
        "half of the activations": (one, weights + spare + (peak - weights) // 2),
        "a fifth of the activations": (one, weights + spare + (peak - weights) // 5),
        "many test rows": (two, weights + spare + (peak - weights) // 5),
        "less than the weights": (one, max(weights // 2, 1 << 20)),
    }
    good = 0
    for name, (material, limit) in limits.items():
        before = len(check.problems)
        with check.part(name):
            found = _limited(check, material, name, limit)
            known = found["status"] in ("finished", "out_of_memory")
            check.expect(known, f"{name}: {found['status']}: {found['error']}")
            if name == "less than the weights":
                detected = found["status"] == "out_of_memory"
                check.expect(detected, f"{name}: {found['status']}, not out_of_memory")
            elif name.endswith("activations"):
                smaller = any("memory" in warning for warning in found["warnings"])
                fits = found["status"] == "finished"
                check.expect(fits, f"{name}: {found['status']}: {found['error']}")
                check.expect(smaller or not fits, f"{name}: finished without smaller micro-batches")
            else:
                fits = found["status"] == "finished"
                check.expect(fits, f"{name}: the evaluation did not fit: {found['error']}")
        good += len(check.problems) == before
    check.summary = f"{good} of {len(limits)} memory limits handled"


def _limited(check: Check, material: Material, name: str, limit: int | None) -> dict[str, Any]:
    """Run `full` with at most `limit` bytes of GPU memory, and return its figures."""
    total = torch.cuda.get_device_properties(0).total_memory
    release_memory()
    torch.cuda.set_per_process_memory_fraction(1.0 if limit is None else limit / total)
    try:
        folder = check.work / "memory" / name.replace(" ", "-")
        record, _ = run_method(material, folder, "full", **SETTINGS)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    parts = record.cost.memory or {}
    found = {
        "limit_bytes": limit,
        "status": str(record.status),
        "error": record.error,
        "warnings": record.warnings,
        "train_peak": parts.get("train_peak"),
        "evaluate_peak": parts.get("evaluate_peak"),
        "reserved_peak": parts.get("reserved_peak"),
        "weights": parts.get("weights"),
    }
    check.note(name, found)
    return found
