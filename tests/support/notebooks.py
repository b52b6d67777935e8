"""Executes notebooks in a real kernel of Jupyter."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

import tuneoff

SOURCE = str(Path(tuneoff.__file__).parents[1])


class Recorder(NotebookClient):
    """Executes a notebook and keeps the displays of its cells, with each update of them."""

    def __init__(self, notebook: Any, folder: Path) -> None:
        super().__init__(notebook, timeout=None, kernel_name="python3")
        self.resources = {"metadata": {"path": str(folder)}}
        self.displays: list[tuple[int, str, dict[str, str]]] = []
        """Index of the cell, type of the message, and content by media type."""

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Record a message, and process it as usual."""
        if msg["msg_type"] in ("display_data", "update_display_data"):
            self.displays.append((cell_index, msg["msg_type"], msg["content"]["data"]))
        return super().process_message(msg, cell, cell_index)


def execute(notebook: Any, folder: Path) -> Recorder:
    """Execute a notebook in `folder`, with the tuneoff that is imported here.

    The outputs are in `notebook` afterwards. Files of Jupyter itself go to `folder`, too.
    """
    path = [SOURCE, *filter(None, [os.environ.get("PYTHONPATH")])]
    recorder = Recorder(notebook, folder)
    recorder.execute(
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path),
            # Libraries ask for ipywidgets, which they do not need.
            "PYTHONWARNINGS": "ignore:IProgress not found",
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_RUNTIME_DIR": str(folder / "jupyter"),
        }
    )
    return recorder


def of_cells(*sources: str) -> Any:
    """Return a notebook of code cells."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return nbformat.v4.new_notebook(cells=cells)
