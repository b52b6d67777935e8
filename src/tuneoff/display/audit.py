"""The audit as terminal lines: each finding in a sentence, with a hint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from tuneoff import formatting as fmt

SHOWN = 6
"""Findings that a terminal shows; the report has them all."""

Findings = Sequence[Mapping[str, Any]]
"""The `audit` of a summary."""


def errors_in(findings: Findings | None) -> int:
    """How many findings are errors, for which `--strict` ends with exit code 2."""
    return sum(finding["severity"] == "error" for finding in findings or ())


def count_line(findings: Findings) -> str:
    """`2 errors and 1 warning`, or that there is none."""
    errors = errors_in(findings)
    counts = {"error": errors, "warning": len(findings) - errors}
    counted = [f"{n} {word}{'' if n == 1 else 's'}" for word, n in counts.items() if n]
    return " and ".join(counted) or "no problem found"


def audit_lines(findings: Findings | None) -> Iterator[RenderableType]:
    """What a terminal shows of a summary's audit; nothing if there was none."""
    if findings is None:
        return
    yield Text()
    yield Text.assemble(("Audit: ", "bold"), count_line(findings))
    for finding in findings[:SHOWN]:
        style = "red" if finding["severity"] == "error" else "yellow"
        yield Text.assemble(
            (finding["code"], style), f": {fmt.one_line(finding['what'])}", overflow="fold"
        )
        yield Padding(
            Text(f"Hint: {fmt.one_line(finding['hint'])}", style="dim"), (0, 0, 0, 2), expand=False
        )
    if len(findings) > SHOWN:
        yield Text(f"and {len(findings) - SHOWN} more in the report", style="dim")
