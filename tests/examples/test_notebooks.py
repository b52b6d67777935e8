"""The notebooks in examples/ run, and are stored with their outputs.

`make notebooks STORE=1` stores the new outputs.
"""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from notebooks import execute

import tuneoff

EXAMPLES = Path(__file__).parents[2] / "examples"
STORE = os.environ.get("TUNEOFF_NOTEBOOKS") == "store"
MACHINE = re.compile(r"(?<![\w.:/])/(?:home|tmp|root|Users|usr|work|var|opt)/|[A-Z]:\\\\")
"""An absolute path."""


def read(file: Path) -> Any:
    return nbformat.read(file, as_version=4)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def cell_with(notebook: Any, text: str) -> Any:
    (cell,) = (cell for cell in code(notebook) if text in cell.source)
    return cell


def value(cell: Any) -> str:
    """Return the value of a cell as text."""
    (output,) = (output for output in cell.outputs if output.output_type == "execute_result")
    return str(output.data["text/plain"])


def store(notebook: Any, file: Path) -> None:
    for cell in code(notebook):
        cell.metadata.pop("execution", None)  # times
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, file)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda file: file.name)
def test_a_notebook_is_stored_with_outputs_and_without_paths(file: Path) -> None:
    notebook = read(file)
    nbformat.validate(notebook)
    cells = code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell.outputs for cell in cells)
    for cell in cells:
        assert {output.output_type for output in cell.outputs} <= {"display_data", "execute_result"}
        for output in cell.outputs:
            assert not MACHINE.search("\n".join(output.data.values()))


@pytest.mark.long
def test_from_a_data_frame(tmp_path: Path) -> None:
    file = EXAMPLES / "from-a-data-frame.ipynb"
    notebook = read(file)
    recorder = execute(notebook, tmp_path)
    study = tuneoff.load(tmp_path / "studies" / "docstrings")
    assert isinstance(study, tuneoff.Study)

    compare = cell_with(notebook, "tuneoff.compare(")
    (output,) = compare.outputs  # one bar, updated in place
    assert output.data["text/plain"].startswith("5/5 runs · finished in ")
    place = notebook.cells.index(compare)
    shown = [data["text/plain"] for cell, _, data in recorder.displays if cell == place]
    assert len(shown) > 10
    assert any(re.search(r"^[1-4]/5 runs · about .* left\n", text) for text in shown)
    assert any("lora, seed 1: training " in text for text in shown)

    table = study.table()
    assert sorted(table.index) == ["head", "lora", "tfidf"]
    assert (table["macro_f1"].drop("tfidf") > 0.5).all()  # guessing: 0.25
    sentences = ast.literal_eval(value(cell_with(notebook, '["sentences"]')))
    assert sentences == study.summary["recommendation"]["sentences"]
    assert value(cell_with(notebook, "study.report()")) == (
        "PosixPath('studies/docstrings/report.html')"
    )
    assert (study.path / "report.html").is_file()
    predicted = value(cell_with(notebook, "best.predict("))
    found = re.findall(r"^\d +([a-z]+)", predicted, re.MULTILINE)
    assert found == ["matplotlib", "networkx", "sympy"]
    (rows, p) = ast.literal_eval(value(cell_with(notebook, "found.rows")))
    assert rows > 40
    assert 0 <= p <= 1
    if STORE:
        store(notebook, file)
