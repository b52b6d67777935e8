"""Loss, size and speed of every export format, for several methods on one data set.

Trains each method once with one seed (`tuneoff.compare`; a second call reuses the runs), exports
each run to each format, and prints a table in Markdown. Losses beyond the usual limit are accepted,
so that they are shown.

    python benchmarks/export_parity.py --model MODEL --train train.csv --test test.csv \
        --text text --label label --out studies/export-parity
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import tuneoff
from tuneoff import formatting as fmt
from tuneoff.engine.export import FORMATS
from tuneoff.exporting import export_run
from tuneoff.results.metrics import QUALITY_METRICS

METHODS = ["full", "lora", "dora", "ia3", "adalora", "adapter", "qlora"]
COLUMNS = [
    "method",
    "format",
    "size",
    "largest difference of a logit (std)",
    "changed labels",
    "{metric}",
    "change (95 % interval)",
    "latency",
    "texts per second",
]


def main() -> None:
    """Print one row per method and format."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model", "train", "test", "text", "label"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--rows", type=int, help="training rows [all]")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=64)
    given = parser.parse_args()
    study = tuneoff.compare(
        out=given.out,
        model=given.model,
        train=given.train,
        test=given.test,
        text=given.text,
        label=given.label,
        methods=given.methods,
        seeds=1,
        epochs=given.epochs,
        max_length=given.max_length,
        max_train=given.rows,
    )
    print(f"| {' | '.join(COLUMNS)} |".format(metric=QUALITY_METRICS[study.spec.metric].title))
    print("|:--|:--|" + "--:|" * (len(COLUMNS) - 2))
    for run in study.runs:
        for name in given.formats.split(","):
            print(row(run, name, given.out / "exports" / f"{run.path.name}-{name}"), flush=True)


def row(run: tuneoff.Run, format: str, out: Path) -> str:
    """Export a run, delete the export, and return its row of the table."""
    method = run.record.method.name
    lossy = FORMATS[format].lossy
    try:
        found: Any = export_run(run.folder, out, format=format, accept_loss=1.0 if lossy else None)
    except tuneoff.BadInput as error:
        return f"| {method} | {format} | {error.issues[0].message} | | | | | | |"
    shutil.rmtree(out)
    parity, change = found.parity, found.parity.metric
    assert change is not None
    cells = [
        method,
        format,
        fmt.size(found.bytes),
        f"{parity.largest_difference:.1e}",
        f"{parity.changed} of {parity.rows:,}",
        f"{fmt.score(change.original, 4)} → {fmt.score(change.exported, 4)}",
        f"{change.change:+.4f} ({change.low:+.4f} to {change.high:+.4f})",
        " → ".join(
            fmt.milliseconds(speed.latency_seconds)
            for speed in (parity.original_speed, parity.exported_speed)
        ),
        " → ".join(
            f"{speed.texts_per_second:.0f}"
            for speed in (parity.original_speed, parity.exported_speed)
        ),
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
