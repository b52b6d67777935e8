"""Terminal output of the audit: one sentence and a hint per finding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from tuneoff import formatting as fmt
from tuneoff.results.summary import AuditFinding

SHOWN = 6
"""Maximum number of findings in the terminal; the report has all of them."""


def errors_in(findings: Sequence[AuditFinding] | None) -> int:
    """Return the number of errors, for which `--strict` exits with code 2."""
    return sum(finding["severity"] == "error" for finding in findings or ())


def count_line(findings: Sequence[AuditFinding]) -> str:
    """Return the numbers of findings as text, such as `2 errors and 1 warning`."""
    errors = errors_in(findings)
    counts = {"error": errors, "warning": len(findings) - errors}
    counted = [f"{n} {word}{'' if n == 1 else 's'}" for word, n in counts.items() if n]
    return " and ".join(counted) or "no problem found"


def audit_lines(findings: Sequence[AuditFinding] | None) -> Iterator[RenderableType]:
    """Yield the terminal output of a summary's audit; nothing without an audit."""
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
