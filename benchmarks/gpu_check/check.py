"""State of a block of the check: its inputs and its findings."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


class NeedsGpu(Exception):
    """The block needs a CUDA device."""


@dataclass
class Check:
    """Inputs and findings of a running block.

    The findings are written to `file` whenever one is added, so that they are kept if the block is
    killed after its time limit.
    """

    device_type: str
    file: Path
    work: Path
    """Folder for models and data that blocks share."""
    findings: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    summary: str = ""

    @property
    def on_gpu(self) -> bool:
        """Whether to use realistic sizes; on a CPU the check is a dry run with tiny ones."""
        return self.device_type == "cuda"

    @property
    def device(self) -> torch.device:
        import torch

        return torch.device(self.device_type)

    def need_gpu(self) -> None:
        """Raise `NeedsGpu` in a dry run on a CPU."""
        if not self.on_gpu:
            raise NeedsGpu

    def note(self, key: str, value: Any) -> None:
        """Add a finding."""
        self.findings[key] = value
        self.write("running")

    def expect(self, holds: bool, problem: str) -> None:
        """Add `problem` unless the expectation holds; the block continues in both cases."""
        if not holds:
            self.problems.append(problem)
            self.write("running")

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Run a part whose exception is added as a problem, so that other parts still run."""
        try:
            yield
        except Exception as error:
            text = str(error).strip() or "no message"
            self.problems.append(f"{name}: {type(error).__name__}: {text[:400]}")
            self.write("running")

    def write(self, status: str, **more: Any) -> None:
        """Write all findings; the file is replaced atomically."""
        content = {
            "status": status,
            "summary": self.summary,
            "problems": self.problems,
            "findings": self.findings,
            **more,
        }
        write_json(self.file, content)


def write_json(file: Path, content: Any) -> None:
    """Write `content` atomically: a reader sees either the old file or the new one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    os.replace(temporary, file)
