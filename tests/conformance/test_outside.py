"""A method of another package is registered and tested by the conformance suite."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MODULE = """
from tuneoff.methods import Method

def apply(model, architecture, config):
    model.requires_grad_(False)
    for name in architecture.linear("query"):
        model.get_submodule(name).requires_grad_(True)
    return model

QUERIES = Method(
    name="queries", family="selective", summary="the queries", learning_rate=1e-4, apply=apply
)
"""

# A method whose trainable weights do not change, because each step restores them.
BROKEN = (
    MODULE
    + """
from dataclasses import replace
from tuneoff.methods.base import Hook

class Refreeze(Hook):
    def __init__(self, model):
        self.model = model
        self.before = {n: w.detach().clone() for n, w in model.named_parameters() if "query" in n}

    def after_step(self, step, weights):
        for name, value in self.before.items():
            weights[name].data.copy_(value)

QUERIES = replace(QUERIES, hook=lambda model, config: Refreeze(model))
"""
)


def run_suite(folder: Path, module: str) -> subprocess.CompletedProcess[str]:
    info = folder / "queries-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: queries\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tuneoff.methods]\nqueries = its_module:QUERIES\n")
    (folder / "its_module.py").write_text(module)
    suite = Path(__file__).with_name("test_conformance.py")
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(suite)),
            *("-m", "", "-k", "queries-bert or queries-roberta"),
        ],
        cwd=suite.parents[2],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


def test_registered_method_passes_conformance_suite(tmp_path: Path) -> None:
    good = run_suite(tmp_path, MODULE)
    assert good.returncode == 0, good.stdout
    assert "2 passed" in good.stdout


def test_conformance_suite_rejects_method_that_does_not_train(tmp_path: Path) -> None:
    broken = run_suite(tmp_path, BROKEN)
    assert broken.returncode == 1
    assert "query.weight" in broken.stdout
