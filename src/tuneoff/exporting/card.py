"""Model card of an export: how to use it, where it comes from, and how it compares to the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuneoff import formatting as fmt
from tuneoff.exporting.result import Export
from tuneoff.results.metrics import QUALITY_METRICS
from tuneoff.results.record import RunRecord

LISTED = 12
"""Number of labels that the card names."""

SETTINGS = (
    "learning_rate",
    "epochs",
    "batch_size",
    "weight_decay",
    "lr_scheduler_type",
    "class_weights",
    "precision",
)
"""Training settings that the card lists."""

VERSIONS = ("tuneoff", "torch", "transformers", "peft")
"""Versions that the card lists."""

USAGE = {
    "transformers": """from transformers import pipeline

classify = pipeline("text-classification", "{path}", truncation=True)
print(classify("A text"))""",
    "onnx": """import numpy as np
import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{path}")
session = onnxruntime.InferenceSession("{path}/model.onnx")
names = {{value.name for value in session.get_inputs()}}
batch = tokenizer(["A text"], truncation=True, padding=True, return_tensors="np")
inputs = {{k: v.astype(np.int64) for k, v in batch.items() if k in names}}
logits = session.run(["logits"], inputs)[0]
print(logits.argmax(1))  # a place in "id2label" of config.json""",
    "openvino": """import openvino
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{path}")
model = openvino.compile_model("{path}/openvino_model.xml", "CPU")
names = {{value.get_any_name() for value in model.inputs}}
batch = tokenizer(["A text"], truncation=True, padding=True, return_tensors="np")
logits = model({{k: v for k, v in batch.items() if k in names}})[0]
print(logits.argmax(1))  # a place in "id2label" of config.json""",
}
"""How to use an export without tuneoff, by runtime."""


def write_card(
    folder: Path,
    export: Export,
    runtime: str,
    record: RunRecord,
    *,
    license: str | None,
    verdict: Sequence[str] = (),
) -> None:
    """Write `README.md` with metadata that the Hugging Face hub reads.

    Args:
        folder: Folder of the export.
        export: The export.
        runtime: What runs it, a key of `USAGE`.
        record: Record of the run.
        license: License of the model.
        verdict: Sentences of the study's recommendation.
    """
    from huggingface_hub import ModelCard, ModelCardData

    data = ModelCardData(
        license=license,
        library_name=runtime,
        pipeline_tag="text-classification",
        base_model=None if Path(record.model).is_absolute() else record.model,
        tags=["tuneoff", record.method.method],
        eval_results=_results(record),
        model_name=record.run_id,
    )
    body = _body(export, runtime, record, license, verdict)
    ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}").save(folder / "README.md")


def _results(record: RunRecord) -> list[Any] | None:
    """Return the test scores in the form of the hub's `model-index`."""
    from huggingface_hub import EvalResult

    scores = record.quality.test
    if scores is None:
        return None
    wanted = dict.fromkeys([record.metric, "accuracy", "macro_f1"])
    return [
        EvalResult(
            task_type="text-classification",
            dataset_type="private",
            dataset_name=f"test rows of the study (fingerprint {record.data.fingerprint[:12]})",
            metric_type={"macro_f1": "f1"}.get(key, key),
            metric_name=QUALITY_METRICS[key].title,
            metric_value=round(float(value), 5),
        )
        for key in wanted
        if key in QUALITY_METRICS and (value := getattr(scores, key)) is not None
    ]


def _body(
    export: Export, runtime: str, record: RunRecord, license: str | None, verdict: Sequence[str]
) -> str:
    lines = [
        f"# A text classifier fine-tuned by `{record.method.name}`",
        "",
        *_origin(export, record, license),
        "",
        "## Use",
        "",
        "```python",
        USAGE[runtime].format(path="PATH"),
        "```",
        "",
        "## Training",
        "",
        "| setting | value |",
        "|---|---|",
        *_setting_rows(record),
        "",
        *_conclusion(verdict),
        "## Test scores of the run",
        "",
        "| metric | value |",
        "|---|--:|",
        *_score_rows(record),
        "",
        "## Comparison of this export with the run's model",
        "",
        *_comparison(export),
        "",
    ]
    return "\n".join(lines)


def _origin(export: Export, record: RunRecord, license: str | None) -> list[str]:
    labels = record.data.labels
    named = ", ".join(f"`{_plain(label)}`" for label in labels[:LISTED])
    more = f" and {len(labels) - LISTED} more (`config.json`)" if len(labels) > LISTED else ""
    fingerprint = record.data.fingerprint[:12]
    return [
        f"- **Base model**: `{_plain(Path(record.model).name)}`",
        f"- **Labels**: {named}{more}",
        f"- **Training data**: {record.data.train_rows:,} rows, fingerprint `{fingerprint}`",
        f"- **Run**: `{record.run_id}`, seed {record.seed}",
        f"- **Longest text**: {record.train['max_length']} tokens; longer texts are truncated",
        f"- **License**: {license or 'not stated'}",
        *(f"- **Change**: {text}" for text in export.notes),
    ]


def _comparison(export: Export) -> list[str]:
    parity = export.parity
    before, after = parity.original_speed, parity.exported_speed
    changed = f"{parity.changed} ({fmt.percent(100 * parity.changed_ratio)})"
    return [
        f"Format `{export.format}`, on {parity.rows:,} rows ({_plain(parity.split)}).",
        "",
        "| | run's model | export |",
        "|---|--:|--:|",
        f"| changed labels | | {changed} |",
        "| largest difference of a logit, in standard deviations | |"
        f" {parity.largest_difference:.2g} |",
        *_metric_rows(export),
        f"| latency of one text | {fmt.milliseconds(before.latency_seconds)} |"
        f" {fmt.milliseconds(after.latency_seconds)} |",
        f"| texts per second, in batches | {before.texts_per_second:.0f} |"
        f" {after.texts_per_second:.0f} |",
        "",
        "`parity.json` has all figures, also for batches of many sizes and lengths.",
    ]


def _conclusion(verdict: Sequence[str]) -> list[str]:
    if not verdict:
        return []
    return ["The study's conclusion:", "", *(f"> {_quoted(sentence)}" for sentence in verdict), ""]


def _setting_rows(record: RunRecord) -> list[str]:
    given = {"method": record.method.method, **record.method.config}
    given |= {name: record.train[name] for name in SETTINGS if name in record.train}
    given |= {"seed": record.seed}
    given |= {name: record.environment[name] for name in VERSIONS if name in record.environment}
    return [f"| {name} | `{_plain(fmt.setting(value))}` |" for name, value in given.items()]


def _quoted(text: str) -> str:
    """Return a sentence without characters that have a meaning in Markdown."""
    return "".join(f"\\{x}" if x in "\\<>*_`[]|" else x for x in fmt.one_line(text))


def _score_rows(record: RunRecord) -> list[str]:
    scores = record.quality.test
    wanted = dict.fromkeys([record.metric, "accuracy", "macro_f1", "log_loss", "ece"])
    return [
        f"| {QUALITY_METRICS[key].title} | {fmt.score(getattr(scores, key))} |"
        for key in wanted
        if scores is not None and key in QUALITY_METRICS and getattr(scores, key) is not None
    ]


def _metric_rows(export: Export) -> list[str]:
    change = export.parity.metric
    if change is None:
        return []
    title = QUALITY_METRICS[change.metric].title
    return [
        f"| {title} on these rows | {fmt.score(change.original, 4)} |"
        f" {fmt.score(change.exported, 4)} |",
        f"| change with 95 % interval | | {change.change:+.4f} ({change.low:+.4f} to"
        f" {change.high:+.4f}) |",
    ]


def _plain(text: str) -> str:
    """Return a label or name without characters that have a meaning in Markdown code."""
    return json.dumps(text, ensure_ascii=False)[1:-1].replace("`", "'").replace("|", "\\|")
