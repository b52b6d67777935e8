"""What a block of the check is given, and where its findings go."""

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
    """The block has nothing to do without a CUDA device."""


@dataclass
class Check:
    """One block at work: its device, its sizes, and its findings.

    The findings are written to `file` whenever one is added, so that a block which is killed for
    its time leaves what it has found so far.
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
        """Whether sizes are real; on a CPU the check is a dry run with tiny ones."""
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
        """Keep a finding."""
        self.findings[key] = value
        self.write("running")

    def expect(self, holds: bool, problem: str) -> None:
        """Keep `problem` unless the expectation holds; the block goes on either way."""
        if not holds:
            self.problems.append(problem)
            self.write("running")

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part whose exception is kept as a problem, so that the other parts still run."""
        try:
            yield
        except Exception as error:
            text = str(error).strip() or "no message"
            self.problems.append(f"{name}: {type(error).__name__}: {text[:400]}")
            self.write("running")

    def write(self, status: str, **more: Any) -> None:
        """Write what is known; the file appears whole or not at all."""
        content = {
            "status": status,
            "summary": self.summary,
            "problems": self.problems,
            "findings": self.findings,
            **more,
        }
        write_json(self.file, content)


def write_json(file: Path, content: Any) -> None:
    """Write `content` so that a reader sees the old file or the new one, never half of it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    os.replace(temporary, file)
