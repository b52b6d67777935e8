"""Rendering of `report.html` as one self-contained file.

The page loads nothing, and its Content-Security-Policy forbids it to: only Plotly and the page's
own script can run, both allowed by their hashes. Texts from the data are escaped by jinja2's
autoescape, by `figures.base.text` for Plotly, or as JSON without `<`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tuneoff import __version__
from tuneoff import formatting as fmt
from tuneoff.comparison.next_seeds import seeds_line
from tuneoff.comparison.summary import display_order
from tuneoff.display.audit import count_line
from tuneoff.error_analysis import ErrorAnalysis
from tuneoff.report import costs, palette, tables, verdict, words
from tuneoff.report import error_analysis as error_section
from tuneoff.report.figures import Figure, Material, classes, cost, curves, quality
from tuneoff.report.figures import error_analysis as error_figures
from tuneoff.report.figures import task as task_figures
from tuneoff.report.figures import tuning as tuning_figures
from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.results.record import RunRecord, TaskRecord
from tuneoff.results.store import StudyFolder, write_atomic
from tuneoff.results.summary import Summary
from tuneoff.tuning.outcomes import budget_text


def write_report(
    folder: StudyFolder,
    summary: Summary,
    records: Sequence[RunRecord],
    histories: Mapping[str, list[dict[str, Any]]],
    task: TaskRecord | None,
    command: str | None = None,
    *,
    errors: ErrorAnalysis | None = None,
) -> Path:
    """Write `report.html` to the study's folder and return its path.

    Args:
        folder: Folder of the study.
        summary: Content of `summary.json`.
        records: Records of all runs.
        histories: Rows of `history.jsonl` by run id.
        task: The prepared task, if it is known.
        command: Command that created the study.
        errors: Error analysis; without it the page has no such section.
    """
    material = replace(_material(summary, records, histories, task), errors=errors)
    write_atomic(folder.report_file, page(material, command))
    return folder.report_file


def page(material: Material, command: str | None = None) -> str:
    """Render the page.

    Args:
        material: Content of the report.
        command: Command that created the study.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tuneoff.report", "templates"),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = fmt.count
    environment.filters["breakable"] = _breakable
    environment.filters["score"] = fmt.score
    environment.filters["percent"] = fmt.percent
    figures = _figures(material)
    script = _template("report.js")
    return environment.get_template("report.html.j2").render(
        **_content(material),
        figures={figure.id: figure for figure in figures},
        command=command,
        css=Markup(palette.css() + "\n" + _template("report.css")),
        plotly=Markup(_plotly()),
        script=Markup(script),
        data=embedded_json({plot.id: plot.to_plain() for f in figures for plot in f.plots}),
        policy=_policy(_plotly(), script),
    )


def _material(
    summary: Summary,
    records: Sequence[RunRecord],
    histories: Mapping[str, list[dict[str, Any]]],
    task: TaskRecord | None,
) -> Material:
    by_name: dict[str, list[RunRecord]] = {row["name"]: [] for row in summary["methods"]}
    for record in sorted(records, key=lambda r: r.seed):
        by_name.setdefault(record.method.name, []).append(record)
    return Material(
        summary=summary,
        rows=display_order(summary),
        records=by_name,
        histories=dict(histories),
        task=task,
        styles=palette.styles((row["name"], row["family"]) for row in summary["methods"]),
    )


def _figures(material: Material) -> list[Figure]:
    drawn = [
        quality.quality_bars(material),
        quality.close_up(material),
        cost.quality_against_cost(material),
        cost.trainable(material),
        tuning_figures.quality_against_budget(material),
        curves.validation_curves(material),
        curves.loss_curves(material),
        classes.confusion(material),
        classes.class_heatmap(material),
        error_figures.error_labels(material),
        error_figures.overlap_maps(material),
        error_figures.margin_boxes(material),
        error_figures.reliability(material),
    ]
    if material.task:
        drawn += [
            task_figures.label_distribution(material.task),
            task_figures.length_histogram(material.task),
            task_figures.length_boxes(material.task),
        ]
    return [figure for figure in drawn if figure]


def _content(material: Material) -> dict[str, Any]:
    summary, task = material.summary, material.task
    model = re.split(r"[/\\]", summary["model"].rstrip("/\\"))[-1]  # empty if unknown
    records = tables.all_records(material)
    settings, common = tables.settings(material)
    measured = [row["name"] for row in material.measured]
    metric = QUALITY_METRICS.get(summary["metric"])
    used = summary.get("seeds")  # missing in summaries of older versions
    deviations = [(r.method.name, f"{k}: {v}") for r in records for k, v in r.deviations.items()]
    warnings = [(r.method.name, warning) for r in records for warning in r.warnings]
    return {
        "title": words.title(material, model),
        "answer": words.answer(material),
        "verdict": verdict.content(material),
        "summary": summary,
        "metric": metric.title if metric else summary["metric"],
        "made": datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC").lstrip("0"),
        "version": __version__,
        "styles": material.styles,
        "symbols": _SYMBOLS,
        "methods": [(row["name"], material.styles[row["name"]]) for row in material.rows],
        "heads": tables.result_heads(material),
        "results": tables.result_rows(material),
        "seeds": _seeds(summary),
        "seeds_line": seeds_line(used) if used else None,
        "majority": summary["reference"]["majority"],
        "measured": measured,
        "pairs": {
            name: classes.confused_pairs(material.finished(name), summary["labels"])
            for name in measured
        },
        "classes": {name: classes.class_lines(material, name) for name in measured},
        "errors": error_section.content(material),
        "task": task,
        "splits": tables.split_table(task) if task else None,
        "shared": tables.shared_rows(task) if task else [],
        "tuning": tables.tuning_table(material),
        "budget": budget_text(summary["tuning"]) if summary["tuning"] else None,
        "parts": costs.parts_table(material),
        "forecast": costs.forecast_table(material),
        "settings": settings,
        "common": common,
        "deviations": tables.grouped(deviations),
        "warnings": tables.grouped(warnings),
        "failures": tables.failures(material),
        "runs": tables.run_table(material),
        "environment": tables.environment(material),
        "audit_count": count_line(summary["audit"] or []),
    }


_SYMBOLS = {
    "circle": "M6 1a5 5 0 1 0 .001 0z",
    "diamond": "M6 .5 11.5 6 6 11.5.5 6z",
    "square": "M1.5 1.5h9v9h-9z",
    "triangle-up": "M6 1 11.5 10.5H.5z",
    "cross": "M4 1h4v3h3v4H8v3H4V8H1V4h3z",
    "x": "M3 .8 6 3.8l3-3L11.2 3l-3 3 3 3L9 11.2l-3-3-3 3L.8 9l3-3-3-3z",
    "star": "M6 .3 7.6 4.2l4.1.3-3.2 2.7 1 4L6 9l-3.5 2.2 1-4L.3 4.5l4.1-.3z",
    "pentagon": "M6 .6 11.4 4.6 9.4 11H2.6L.6 4.6z",
    "circle-open": "M6 .8a5.2 5.2 0 1 0 .001 0zM6 2.6a3.4 3.4 0 1 1-.001 0z",
    "square-open": "M1 1h10v10H1zM2.8 2.8v6.4h6.4V2.8z",
}
"""Plotly's markers as SVG paths in a box of 12 x 12, for legends outside of the plots."""


def _seeds(summary: Summary) -> str:
    """Return the number of seeds, such as `2 seeds`, or `2 to 5 seeds` if it differs."""
    counts = [len(row["runs"]) for row in summary["methods"]] or [0]
    if used := summary.get("seeds"):
        counts = list(used["of"].values()) or counts
    low, high = (min(counts), max(counts)) if used else (max(counts),) * 2
    return f"{low} to {high} seeds" if low < high else f"{high} seed{'' if high == 1 else 's'}"


def _breakable(text: str) -> Markup:
    """Allow line breaks after the underscores of a name."""
    return Markup("_<wbr>").join(_visible(text).split("_"))


_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"}
_PICTURES |= {0x7F: 0x2421} | dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000)], 0xFFFD)
"""Visible replacements of control characters, such as U+2400 for NUL."""


def _visible(value: Any) -> Any:
    """Replace control characters in texts by visible ones; `Markup` is not changed."""
    return value.translate(_PICTURES) if type(value) is str else value


def embedded_json(content: Any) -> Markup:
    """Return JSON that is safe in a script element, without `<`, `>`, `&`, U+2028 or NaN.

    Args:
        content: Plain values; numbers are rounded to six digits, and NaN becomes null.
    """
    text = json.dumps(_finite(content), separators=(",", ":"), allow_nan=False)
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float):
        # six digits suffice for a plot
        return float(f"{content:.6g}") if math.isfinite(content) else None
    return content


def _policy(*scripts: str) -> str:
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


@cache
def _plotly() -> str:
    """Return Plotly's script without carriage returns, which would change its hash."""
    from plotly.offline import get_plotlyjs

    source: str = get_plotlyjs()
    if "</script" in source.lower() or "<!--" in source:
        source = re.sub(r"</(script)", r"<\\/\1", source, flags=re.I).replace("<!--", "<\\!--")
    return source.replace("\r\n", "\n").replace("\r", "\n")


def _template(name: str) -> str:
    return (resources.files("tuneoff.report") / "templates" / name).read_text(encoding="utf-8")
