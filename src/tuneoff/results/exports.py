"""The manifest of an exported model: what its other files do not say."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tuneoff.exceptions import BadInput, Issue
from tuneoff.results.store import write_json

MANIFEST = "tuneoff.json"
"""Name of the manifest in the folder of an export."""

SCHEMA = 1
"""Version of the manifest, increased if a field changes its meaning."""


@dataclass(frozen=True)
class Manifest:
    """Content of the manifest."""

    format: str
    runtime: str
    """What runs the model: `transformers`, `onnx` or `openvino`."""
    max_length: int
    """Number of tokens to which texts are truncated."""
    padding: str
    """`right`, `left`, or `none` if only texts of equal length may share a batch."""
    columns: dict[str, str | None]
    """Columns of the training data: `text`, `text_pair` and `label`."""
    run: str
    """Id of the run."""
    method: str
    """Name of the method in its study."""
    seed: int
    model: str
    """Name or path of the pretrained model."""
    metric: str
    """The study's metric."""
    data_fingerprint: str
    notes: list[str] = field(default_factory=list)
    """How the exported model differs from the trained one."""
    schema: int = SCHEMA

    def write(self, folder: Path) -> None:
        """Write the manifest into the folder of an export."""
        write_json(folder / MANIFEST, asdict(self))

    @staticmethod
    def read(folder: Path) -> Manifest:
        """Read the manifest of an export; `BadInput` if the folder is not one."""
        from pydantic import TypeAdapter, ValidationError

        try:
            content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            return TypeAdapter(Manifest).validate_python(content)
        except FileNotFoundError:
            raise BadInput(
                Issue(
                    f"is not an export (it has no {MANIFEST})",
                    file=str(folder),
                    hint="Write one with tuneoff export RUN --format onnx.",
                )
            ) from None
        except (ValueError, ValidationError) as error:
            problem = str(error).strip().splitlines()[0]
            raise BadInput(
                Issue(f"is not a valid manifest: {problem}", str(folder / MANIFEST))
            ) from error


def is_export(path: str | Path) -> bool:
    """Return whether a folder is an exported model."""
    return (Path(path) / MANIFEST).is_file()
