"""The generated reference pages are complete."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from tuneoff.audit import KINDS
from tuneoff.cli import app
from tuneoff.config import DataSpec, TrainSpec, TuneSpec
from tuneoff.methods import methods
from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.results.record import Cost, RunRecord
from tuneoff.results.summary import Pair, Recommendation, Summary

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def pages() -> Iterator[dict[str, str]]:
    spec = importlib.util.spec_from_file_location(
        "reference_pages", DOCS / "site" / "reference_pages.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference_pages"] = module
    spec.loader.exec_module(module)
    yield {name: "\n".join(lines) for name, lines in module.pages().items()}
    del sys.modules["reference_pages"]


def test_every_setting_is_described(pages: dict[str, str]) -> None:
    for section in (DataSpec, TrainSpec, TuneSpec):
        for field in fields(section):
            assert f"| `{field.name}` " in pages["study-file"], field.name


def test_every_command_method_metric_and_finding_is_listed(pages: dict[str, str]) -> None:
    commands = {command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    expected = {
        "cli": [f"## tuneoff {name}" for name in commands],
        "methods": [f"## {name}" for name in methods()],
        "metrics": [f"| `{key}` |" for key in QUALITY_METRICS],
        "audit": [f"| `{kind.code}` |" for kind in KINDS],
        "record": [f"| `{f.name}` |" for f in (*fields(RunRecord), *fields(Cost))],
        "summary": [
            f"| `{key}` |"
            for kind in (Summary, Recommendation, Pair)
            for key in kind.__annotations__
        ],
    }
    for page, texts in expected.items():
        assert [text for text in texts if text not in pages[page]] == []


def test_all_rows_of_a_table_have_the_same_number_of_columns(pages: dict[str, str]) -> None:
    for name, page in pages.items():
        columns = 0
        for line in page.splitlines():
            bars = line.replace("\\|", "").count("|")
            if columns and bars:
                assert bars == columns, (name, line)
            columns = bars
