"""Mutation tests: each deliberate bug in a copy of the source must make a test fail.

Run them with `make mutations`. A mutation replaces one piece of source text. The tests are those of
the conformance suite that are expected to detect it.
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
class Mutation:
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "a layer that should train is frozen",
        "methods/partial.py",
        "range(depth - config.k, depth)",
        "range(depth - config.k + 1, depth)",
        (SUITE, "-k", "partial-bert"),
    ),
    Mutation(
        "frozen weights change, and are not counted",
        "engine/training/step.py",
        '        self.step_timer.record("optimizer")\n',
        "        self.classifier.model.get_submodule(self.classifier.architecture.body)"
        ".embeddings.word_embeddings.weight.data.mul_(0.999)\n"
        '        self.step_timer.record("optimizer")\n',
        (SUITE, "-k", "head-bert"),
    ),
    Mutation(
        "a layer that should be frozen trains",
        "methods/head.py",
        "return model.requires_grad_(False)",
        "model.requires_grad_(False)\n"
        "    model.get_submodule(architecture.layers[0]).requires_grad_(True)\n    return model",
        (SUITE, "-k", "head-bert"),
    ),
    Mutation(
        "the head is dropped when an adapter is saved",
        "methods/adapted.py",
        "    return adapted\n",
        "    for module in adapted.modules():\n"
        "        if hasattr(module, 'modules_to_save'):\n"
        "            module.adapter_state_dict = lambda *_, **__: {}\n"
        "    return adapted\n",
        (SUITE, "-k", "lora-bert"),
    ),
    Mutation(
        "the head is dropped when a whole model is saved",
        "engine/model/save.py",
        "_save_whole(base, labelled, {**_head(classifier), **weights}, temporary)",
        "_save_whole(base, labelled, {n: w for n, w in weights.items()"
        " if not classifier.architecture.is_head(n)}, temporary)",
        (SUITE, "-k", "full-bert"),
    ),
    Mutation(
        "the head is counted twice",
        "engine/model/load.py",
        'if ".original_module." not in name\n    }',
        "if True\n    }",
        (SUITE, "-k", "lora-distilbert"),
    ),
    Mutation(
        "the head is quantised",
        "engine/model/load.py",
        "llm_int8_skip_modules=list(head),",
        'llm_int8_skip_modules=["none"],',
        (SUITE, "-k", "qlora-bert"),
    ),
)


def main() -> int:
    """Run all mutations; return the number of undetected ones as the exit code."""
    undetected = 0
    for mutation in MUTATIONS:
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            shutil.copytree(ROOT / "src", scratch / "src")
            shutil.copytree(ROOT / "tests", scratch / "tests")
            shutil.copy(ROOT / "pyproject.toml", scratch)
            source = scratch / "src" / "tuneoff" / mutation.file
            text = source.read_text(encoding="utf-8")
            if text.count(mutation.old) != 1:
                print(f"not applicable     {mutation.what} ({mutation.file})")
                undetected += 1
                continue
            source.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
            result = subprocess.run(
                [sys.executable, "-m", "pytest", "-x", *mutation.tests],
                cwd=scratch,
                env={**os.environ, "PYTHONPATH": str(scratch / "src")},
                capture_output=True,
                text=True,
                check=False,
            )
            detected = result.returncode == 1
            undetected += not detected
            reason = next((x for x in result.stdout.splitlines() if x.startswith("E  ")), "")
            outcome = "detected" if detected else "NOT DETECTED"
            print(f"{outcome:<18} {mutation.what}: {reason[1:].strip()[:90]}")
    return undetected


if __name__ == "__main__":
    sys.exit(main())
