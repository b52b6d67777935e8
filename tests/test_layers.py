"""Only the engine imports torch, and `import tuneoff` is fast."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import tuneoff

HEAVY = ("torch", "transformers", "peft", "accelerate", "datasets", "bitsandbytes")

IMPORT_EACH = """
import importlib, sys
*modules, heavy = sys.argv[1:]
for module in modules:
    importlib.import_module(module)
    loaded = [name for name in heavy.split(",") if name in sys.modules]
    if loaded:
        sys.exit(f"importing {module} loads {', '.join(loaded)}")
"""


def modules_below(paths: list[str], prefix: str) -> Iterator[str]:
    """Yield the names of all modules without importing them, packages before their modules."""
    for entry in pkgutil.iter_modules(paths):
        yield prefix + entry.name
        if entry.ispkg:
            yield from modules_below(
                [str(Path(path) / entry.name) for path in paths], f"{prefix}{entry.name}."
            )


MODULES = [name for name in modules_below(list(tuneoff.__path__), "tuneoff.") if "__" not in name]
TORCH_FREE = [name for name in MODULES if not name.startswith("tuneoff.engine")]


def import_each(modules: list[str], heavy: tuple[str, ...]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH, *modules, ",".join(heavy)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr


def test_import_of_the_package_is_light() -> None:
    assert import_each(["tuneoff"], (*HEAVY, "pandas", "sklearn", "plotly", "pydantic")) == ""


def test_only_the_engine_loads_torch() -> None:
    assert {"tuneoff.methods", "tuneoff.report", "tuneoff.scheduling.worker"} <= set(TORCH_FREE)
    assert import_each(TORCH_FREE, HEAVY) == ""


def test_check_detects_a_heavy_import() -> None:
    assert "importing json loads json" in import_each(["json"], ("json",))
