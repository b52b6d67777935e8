"""Export of a run: merge, write, compare with the run's model, and put the folder in place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuneoff.exceptions import BadInput, Issue
from tuneoff.exporting.card import write_card
from tuneoff.exporting.parity import CannotPredict, compare
from tuneoff.exporting.result import EXACT, LOSS, Export, ExportRefused
from tuneoff.results.exports import Manifest, is_export
from tuneoff.results.record import RunRecord, Status
from tuneoff.results.store import RunFolder, check_writable, sync_tree, write_json
from tuneoff.tables import Columns, choose_columns, read_table

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 2000
"""Largest number of rows on which an export is compared with the run's model."""

SPLITS = ("validation", "test")
"""Splits of the study that the rows come from, in the order of preference."""


def export_run(
    folder: RunFolder,
    out: Path,
    *,
    format: str = "onnx",
    accept_loss: float | None = None,
    data: str | None = None,
    license: str | None = None,
    note: Callable[[str], None] = lambda text: None,
    progress: Callable[[str, int, int], None] = lambda what, done, rows: None,
) -> Export:
    """Write the model of a run for other programs, if it predicts the same.

    The folder `out` appears only if the export passes the comparison.

    Args:
        folder: Folder of a finished run.
        out: Folder to write, which must be new or empty or an earlier export.
        format: A key of `engine.export.FORMATS`.
        accept_loss: Largest accepted proportion of changed labels; by default 0.01 for formats with
            rounded weights and runs with a 4-bit base, and for others a limit of the logits.
        data: File of rows to compare on; by default the validation rows of the study.
        license: License of the model for its card, such as "apache-2.0".
        note: Called with notes on the data.
        progress: Called with a name of the current part, the number of rows done and of all rows.

    Raises:
        BadInput: The run has no model, the method cannot be exported, or there are no rows.
        MissingExtra: A package that the format needs is not installed.
        ExportRefused: The export predicts something else.
    """
    from tuneoff.engine.export import format_of, merge
    from tuneoff.engine.inference import ExportedModel, original

    chosen = format_of(format)
    chosen.check_installed()
    record = _finished(folder)
    _check_target(out)
    rows, split = _rows(folder, record, data, note)
    merged = merge(folder, record)
    target = out.absolute()
    building = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        _write(chosen, merged, folder, record, building)
        rounded = chosen.lossy or merged.quantized
        parity = compare(
            original(folder, record),
            ExportedModel(building),
            rows,
            split=split,
            metric=record.metric,
            bound=accept_loss if accept_loss is not None else LOSS if rounded else EXACT,
            lossy=rounded or accept_loss is not None,
            recorded=_recorded(folder, split),
            progress=progress,
        )
        if parity.failures:
            raise ExportRefused(out, parity.failures, parity)
        write_json(building / "parity.json", parity.to_plain())
        size = sum(file.stat().st_size for file in building.rglob("*") if file.is_file())
        export = Export(out, chosen.name, size, parity, merged.notes)
        write_card(
            building, export, chosen.runtime, record, license=license, verdict=_verdict(folder)
        )
        sync_tree(building)
        if out.exists():
            shutil.rmtree(out)
        os.replace(building, out)
    except CannotPredict as error:
        raise ExportRefused(out, [str(error)]) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return export


def _finished(folder: RunFolder) -> RunRecord:
    record = folder.record()
    if record is None or record.status != Status.FINISHED:
        status = "it has not been run yet" if record is None else record.status.value
        raise BadInput(Issue(f"has no model to export ({status})", file=str(folder.path)))
    return record


def _check_target(out: Path) -> None:
    """Raise `BadInput` if `out` is not writable, or holds anything but an earlier export."""
    if out.is_file():
        raise BadInput(Issue("is a file, not a folder", file=str(out)))
    if out.is_dir() and any(out.iterdir()) and not is_export(out):
        raise BadInput(
            Issue(
                "is a folder with other files", file=str(out), hint="Name a new folder with --out."
            )
        )
    check_writable(out.parent)


def _write(chosen: Any, merged: Any, folder: RunFolder, record: RunRecord, out: Path) -> None:
    """Write the model, its tokenizer and the manifest."""
    from tuneoff.engine.data.tokenizer import load_tokenizer

    max_length = int(record.train["max_length"])
    tokenizer = load_tokenizer(folder.model)
    tokenizer.model_max_length = max_length  # `pipeline(…, truncation=True)` truncates to it
    if merged.padding != "none":
        tokenizer.padding_side = merged.padding
    chosen.write(merged, tokenizer, out)
    tokenizer.save_pretrained(out)
    data = folder.study_data()
    Manifest(
        format=chosen.name,
        runtime=chosen.runtime,
        max_length=max_length,
        padding=merged.padding,
        columns={
            "text": data.text if data else None,
            "text_pair": data.text_pair if data else None,
            "label": data.label if data else None,
        },
        run=record.run_id,
        method=record.method.name,
        seed=record.seed,
        model=record.model,
        metric=record.metric,
        data_fingerprint=record.data.fingerprint,
        notes=merged.notes,
    ).write(out)


def _rows(
    folder: RunFolder, record: RunRecord, data: str | None, note: Callable[[str], None]
) -> tuple[pd.DataFrame, str]:
    """Return the rows to compare on, and where they come from."""
    if data is not None:
        trained_on = folder.study_data()
        usual = Columns.of(trained_on) if trained_on else Columns()
        asked = Columns(text=None, text_pair=usual.text_pair, label=None)
        columns, notes = choose_columns(data, asked, "new", usual=usual)
        table = read_table(data, columns, "new")
        for text in [*notes, *table.warnings]:
            note(text)
        return _spread(table.frame.assign(row=np.arange(len(table.frame)))), data
    study = folder.study()
    task = study.task(record.data.fingerprint) if study else None
    known = study.rows(task) if study and task else None
    if known is not None:
        for split in SPLITS:
            frame = known[known["split"] == split]
            if len(frame):
                empty = [c for c in ("text_pair", "group") if c in frame and frame[c].isna().all()]
                return _spread(frame.drop(columns=empty).reset_index(drop=True)), split
    raise BadInput(
        Issue(
            "the rows of its study are not available any more",
            file=str(folder.path),
            hint="Give rows to compare the export on with --data FILE.",
        )
    )


def _spread(frame: pd.DataFrame) -> pd.DataFrame:
    """Return at most `MOST_ROWS` rows, evenly from the first to the last."""
    if len(frame) <= MOST_ROWS:
        return frame
    places = np.linspace(0, len(frame) - 1, MOST_ROWS).round().astype(int)
    return frame.iloc[places].reset_index(drop=True)


def _verdict(folder: RunFolder) -> list[str]:
    """Return the sentences of the study's recommendation; empty without one."""
    study = folder.study()
    summary = None if study is None else study.summary()
    found = None if summary is None else summary["recommendation"]
    return [] if found is None else list(found["sentences"])


def _recorded(folder: RunFolder, split: str) -> pd.Series[str] | None:
    """Return the labels that the run predicted for a split, by row; None without predictions."""
    if split not in SPLITS or not folder.predictions_file.is_file():
        return None
    table = folder.predictions()
    table = table[table["split"] == split]
    return table.set_index("row")["prediction"].astype(str) if len(table) else None
