"""Ranges in pyproject.toml have upper bounds, and constraints.txt pins versions inside them."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tuneoff

ROOT = Path(__file__).parents[1]
CUDA = re.compile(r"cuda|nvidia|triton")  # each build of PyTorch pins its own


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    return [Requirement(x) for group in (project["dependencies"], *extras) for x in group]


def pins() -> dict[str, str]:
    """Return the versions in constraints.txt for this Python and platform, by name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in found
        if pin.marker is None or pin.marker.evaluate()
    }


def installed(name: str) -> str | None:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


@pytest.mark.parametrize("asked", requirements(), ids=str)
def test_ranges_have_bounds_and_include_the_pinned_version(asked: Requirement) -> None:
    operators = {part.operator for part in asked.specifier}
    assert operators in ({"=="}, {">=", "<"})
    assert asked.specifier.contains(pins()[canonicalize_name(asked.name)]), "run `make lock`"


def test_makefile_installs_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r"^EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    expected = project["optional-dependencies"].keys() - {"docs"}  # installed by `make docs`
    assert set(extras.split(",")) == expected


def test_constraints_pin_all_installed_packages() -> None:
    locked = pins()
    for asked in requirements():
        name = canonicalize_name(asked.name)
        if installed(name) != locked[name]:
            pytest.skip(f"not installed from constraints.txt: {name} {installed(name)}")
    open_, seen = {canonicalize_name(asked.name) for asked in requirements()}, set()
    while open_:
        name = open_.pop()
        seen.add(name)
        needed = [Requirement(line) for line in distribution(name).requires or []]
        open_ |= {
            found
            for asked in needed
            if asked.marker is None or asked.marker.evaluate({"extra": ""})
            if installed(found := canonicalize_name(asked.name)) and not CUDA.match(found)
        } - seen
    assert {name: installed(name) for name in seen} == {name: locked.get(name) for name in seen}


def test_citation_has_the_current_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {tuneoff.__version__}\n" in citation
