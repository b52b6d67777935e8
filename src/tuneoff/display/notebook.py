"""Progress of a study in a Jupyter notebook: one bar that is updated in place.

The bar is HTML that IPython displays and updates, so neither widgets nor a terminal are needed.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from html import escape
from typing import Any

from tuneoff.config import RunSpec
from tuneoff.display.progress import Quiet, end_line, name_of, plan_line, preparing_line
from tuneoff.display.progress import progress_line as line_of
from tuneoff.exceptions import printable
from tuneoff.formatting import seconds as in_words
from tuneoff.results.record import RunRecord, Status, TaskRecord


def in_notebook() -> bool:
    """Return whether the code runs in a kernel of Jupyter, or of a notebook service such as Colab.

    IPython in a terminal is not a kernel.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)


@dataclass
class _Active:
    """A run that has started and not ended."""

    spec: RunSpec
    event: dict[str, Any] = field(default_factory=lambda: {"phase": "load"})

    @property
    def fraction(self) -> float:
        """Finished fraction of the training steps; 1 in the phases after training."""
        if "step" in self.event:
            return int(self.event["step"]) / max(int(self.event["steps"]), 1)
        return 1.0 if self.event["phase"] in ("test", "save", "check") else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Remaining seconds of the training, if they are known."""
        seconds = self.event.get("seconds_left")
        return None if seconds is None else float(seconds)


class NotebookBar(Quiet):
    """Progress as one bar with the active runs, the remaining time, and warnings below."""

    EVERY = 0.5
    """Minimum time between two updates for a step of a run, in seconds."""
    MOST_WARNINGS = 20

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._handle: Any = None
        self._shown_at = 0.0
        self._begun = self._batch_begun = time.monotonic()
        self._kind, self._total, self._done, self._earlier = "run", 0, 0, 0
        self._status = "starting"
        self._plan = ""
        self._active: dict[str, _Active] = {}
        self._warnings: dict[str, None] = {}  # as an ordered set

    def __exit__(self, *error: Any) -> None:
        kind: type[BaseException] | None = error[0]
        with self._lock:
            took = in_words(time.monotonic() - self._begun)
            if kind is None:
                self._status = f"finished in {took}"
            else:
                interrupted = issubclass(kind, KeyboardInterrupt)
                self._status = f"{'interrupted' if interrupted else 'stopped'} after {took}"
            self._active.clear()
            self._show(ended=True)

    def preparing(self, event: dict[str, Any]) -> None:
        """Show what is being prepared."""
        with self._lock:
            self._status = preparing_line(event)
            self._show()

    def planned(self, runs: int, finished: int, task: TaskRecord, kind: str = "run") -> None:
        """Show the number of runs and the size of the data. More runs of a kind are added."""
        with self._lock:
            if kind != self._kind or not self._total:
                self._kind, self._total, self._done, self._earlier = kind, 0, 0, 0
                self._batch_begun = time.monotonic()
            self._total += runs
            self._done += finished
            self._earlier += finished
            self._status = ""
            self._plan = plan_line(self._total, self._earlier, task, kind)
            self._warn(*task.warnings)
            self._show()

    def started(self, spec: RunSpec) -> None:
        """Show the start of a run."""
        with self._lock:
            self._active[spec.run_id] = _Active(spec)
            self._show()

    def progress(self, spec: RunSpec, event: dict[str, Any]) -> None:
        """Show the progress of a run, at most twice per second."""
        with self._lock:
            if spec.run_id in self._active:
                self._active[spec.run_id].event = event
                if time.monotonic() - self._shown_at >= self.EVERY:
                    self._show()

    def ended(self, spec: RunSpec, record: RunRecord) -> None:
        """Count a run, and show its warnings or why it failed."""
        with self._lock:
            self._active.pop(spec.run_id, None)
            self._done += 1
            if record.status != Status.FINISHED:
                self._warn(end_line(spec, record))
            self._warn(*(f"{name_of(spec)}: {warning}" for warning in record.warnings))
            self._show()

    def _warn(self, *lines: str) -> None:
        self._warnings.update(dict.fromkeys(lines))

    def _seconds_left(self) -> float | None:
        """Return the remaining time of all runs in seconds, or None before it can be estimated.

        Runs that have not started are expected to take as long as the finished ones on average.
        """
        left = [active.seconds_left for active in self._active.values()]
        known = [seconds for seconds in left if seconds is not None]
        if self._done + len(self._active) >= self._total:
            return max(known) if known and len(known) == len(left) else None
        ended = self._done - self._earlier
        if not ended:
            return None
        units = ended + sum(active.fraction for active in self._active.values())
        rate = (time.monotonic() - self._batch_begun) / units
        return max([rate * (self._total - self._earlier - units), *known])

    def _head(self) -> str:
        """Return the text beside the bar, such as `3/8 runs · about 2m 10s left`."""
        parts = [f"{self._done}/{self._total} {self._kind}s"] if self._total else []
        if self._status:
            parts.append(self._status)
        elif self._done >= self._total:
            parts.append("writing the results")
        elif (left := self._seconds_left()) is not None:
            parts.append(f"about {in_words(left) if left >= 10 else f'{left:.0f} s'} left")
        return " · ".join(parts)

    def _below(self) -> tuple[list[str], list[str]]:
        """Return the lines on the active runs, and the warnings."""
        running = [f"{name_of(a.spec)}: {line_of(a.event)}" for a in self._active.values()]
        warnings = [f"warning: {line}" for line in self._warnings]
        more = len(warnings) - self.MOST_WARNINGS
        if more > 0:
            warnings = [*warnings[: self.MOST_WARNINGS], f"and {more} more warnings"]
        return running, warnings

    def _show(self, *, ended: bool = False) -> None:
        from IPython.display import display

        self._shown_at = time.monotonic()
        shown = _Bundle(self._as_html(ended), self._as_text())
        if self._handle is None:
            self._handle = display(shown, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(shown)

    def _as_text(self) -> str:
        running, warnings = self._below()
        plan = [self._plan] if self._plan else []
        return printable("\n".join([self._head(), *plan, *running, *warnings]))

    def _as_html(self, ended: bool) -> str:
        running, warnings = self._below()
        attributes = ""
        if self._total:
            units = self._done + sum(active.fraction for active in self._active.values())
            attributes = f' value="{units:.3f}" max="{self._total}"'
        elif ended:
            attributes = ' value="1" max="1"'
        lines = [
            f'<progress{attributes} style="width: 18em; vertical-align: middle"></progress> '
            + _line(self._head()),
            *(
                f'<span style="opacity: 0.75">{_line(x)}</span>'
                for x in (self._plan, *running)
                if x
            ),
            *map(_line, warnings),
        ]
        return f'<div style="font-size: 0.9em; line-height: 1.5">{"<br>".join(lines)}</div>'


def _line(text: str) -> str:
    return escape(printable(text)).replace("\n", "<br>")


class _Bundle:
    """Content of an output cell, as HTML and as plain text."""

    def __init__(self, html: str, text: str) -> None:
        self._content = {"text/html": html, "text/plain": text}

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        return self._content
