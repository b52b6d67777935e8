"""Deliberate faults in a scratch copy, each of which must make a test fail: `make mutations`.

A fault is a replacement of one piece of source; what is run is the sample of the conformance suite
and the tests that count weights.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUITE = "tests/conformance/test_conformance.py"


@dataclass(frozen=True)
class Fault:
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


FAULTS = (
    Fault(
        "a layer that should train is frozen",
        "methods/partial.py",
        "range(depth - config.k, depth)",
        "range(depth - config.k + 1, depth)",
        (SUITE, "-k", "partial-bert"),
    ),
    Fault(
        "weights that should not train do, and are not counted",
        "engine/training/loop.py",
        "                optimizer.sync_model()\n",
        "                optimizer.sync_model()\n"
        "                classifier.model.get_submodule(classifier.architecture.body)"
        ".embeddings.word_embeddings.weight.data.mul_(0.999)\n",
        (SUITE, "-k", "head-bert"),
    ),
    Fault(
        "a layer that should be frozen trains",
        "methods/head.py",
        "return model.requires_grad_(False)",
        "model.requires_grad_(False)\n"
        "    model.get_submodule(architecture.layers[0]).requires_grad_(True)\n    return model",
        (SUITE, "-k", "head-bert"),
    ),
    Fault(
        "the head is dropped when an adapter is saved",
        "methods/adapted.py",
        "    return adapted\n",
        "    for module in adapted.modules():\n"
        "        if hasattr(module, 'modules_to_save'):\n"
        "            module.adapter_state_dict = lambda *_, **__: {}\n"
        "    return adapted\n",
        (SUITE, "-k", "lora-bert"),
    ),
    Fault(
        "the head is dropped when a whole model is saved",
        "engine/model/save.py",
        "_save_whole(base, labelled, {**_head(classifier), **weights}, temporary)",
        "_save_whole(base, labelled, {n: w for n, w in weights.items()"
        " if not classifier.architecture.is_head(n)}, temporary)",
        (SUITE, "-k", "full-bert"),
    ),
    Fault(
        "the head is counted twice",
        "engine/model/load.py",
        'if ".original_module." not in name\n    }',
        "if True\n    }",
        (SUITE, "-k", "lora-distilbert"),
    ),
    Fault(
        "the head is quantised",
        "engine/model/load.py",
        "llm_int8_skip_modules=list(head),",
        'llm_int8_skip_modules=["none"],',
        (SUITE, "-k", "qlora-bert"),
    ),
)


def main() -> int:
    """Print what became of each fault; the exit code is the number of those that went unseen."""
    unseen = 0
    for fault in FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            shutil.copytree(ROOT / "src", scratch / "src")
            shutil.copytree(ROOT / "tests", scratch / "tests")
            shutil.copy(ROOT / "pyproject.toml", scratch)
            source = scratch / "src" / "tuneoff" / fault.file
            text = source.read_text(encoding="utf-8")
            if text.count(fault.old) != 1:
                print(f"cannot be placed   {fault.what} ({fault.file})")
                unseen += 1
                continue
            source.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
            ended = subprocess.run(
                [sys.executable, "-m", "pytest", "-x", *fault.tests],
                cwd=scratch,
                env={**os.environ, "PYTHONPATH": str(scratch / "src")},
                capture_output=True,
                text=True,
                check=False,
            )
            seen = ended.returncode == 1
            unseen += not seen
            why = next((x for x in ended.stdout.splitlines() if x.startswith("E  ")), "")
            print(f"{'seen' if seen else 'UNSEEN':<18} {fault.what}: {why[1:].strip()[:90]}")
    return unseen


if __name__ == "__main__":
    sys.exit(main())
