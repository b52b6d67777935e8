"""The desk stays free of torch, and every module has its place in the order of the layers."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import tuneoff

ROOT = Path(__file__).parents[1]
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
    """Names of all modules, packages before what is in them, without importing any."""
    for entry in pkgutil.iter_modules(paths):
        yield prefix + entry.name
        if entry.ispkg:
            yield from modules_below(
                [str(Path(path) / entry.name) for path in paths], f"{prefix}{entry.name}."
            )


def layers(contract: str) -> set[str]:
    """The modules that one of import-linter's contracts names."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    found = next(entry for entry in settings["contracts"] if entry["name"] == contract)
    return {name.strip(" ()") for layer in found["layers"] for name in layer.split(":")}


def top(module: str) -> str:
    return ".".join(module.split(".")[:2])


MODULES = [name for name in modules_below(list(tuneoff.__path__), "tuneoff.") if "__" not in name]
DESK = layers("The desk reads downwards")
ENGINE = layers("The engine reads downwards") - DESK


def import_each(modules: list[str], heavy: tuple[str, ...]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH, *modules, ",".join(heavy)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr


def test_every_module_has_a_layer() -> None:
    assert {top(module) for module in MODULES} <= DESK | ENGINE


def test_both_contracts_on_the_halves_name_the_same_modules() -> None:
    halves = layers("The desk does not import the engine")
    assert halves == layers("The engine does not import the desk")
    waist = {"tuneoff.methods", "tuneoff.store", "tuneoff.scores", "tuneoff.record"}
    waist |= {"tuneoff.spec", "tuneoff.label_names", "tuneoff.errors"}
    assert halves == (DESK | ENGINE) - waist


def test_the_front_door_is_light() -> None:
    assert import_each(["tuneoff"], (*HEAVY, "pandas", "sklearn", "plotly", "pydantic")) == ""


def test_the_desk_loads_no_torch() -> None:
    desk = [module for module in MODULES if top(module) in DESK]
    assert {"tuneoff.methods", "tuneoff.report", "tuneoff.launch"} <= set(desk)
    assert import_each(desk, HEAVY) == ""


def test_the_check_sees_a_heavy_import() -> None:
    assert "importing json loads json" in import_each(["json"], ("json",))
