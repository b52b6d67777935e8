"""The error analysis in the report, as text and in a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tuneoff.report import build_report
from tuneoff.results.record import Status
from tuneoff.results.store import StudyFolder

Make = Callable[..., StudyFolder]
EVIL = "</script><img src=x onerror=alert(1)> \u202egnp.exe\u202c \u2028 & <b>bold</b> %{x}"
WORDS = [f"word{i}" for i in range(150)]


def add_predictions(folder: StudyFolder, evil: bool = False) -> StudyFolder:
    """Write rows with texts, and predictions with the confusion matrix of each finished run."""
    task = folder.task()
    assert task
    rng = np.random.default_rng(3)
    frames = []
    for split, found in task.splits.items():
        labels = [label for label, count in found.label_counts.items() for _ in range(count)]
        texts = [" ".join(rng.choice(WORDS, rng.integers(3, 20))) for _ in labels]
        frame = pd.DataFrame({"split": split, "row": range(len(labels)), "text": texts})
        frames.append(frame.assign(label=labels, weight=np.float32(1)))
    rows = pd.concat(frames, ignore_index=True)
    if evil:
        rows["text"] = EVIL + " " + rows["text"]
    rows.to_parquet(folder.data / task.key / "rows.parquet", index=False)
    for run in folder.runs():
        record = run.record()
        if record is None or record.status is not Status.FINISHED:
            continue
        tables = []
        for split in ("validation", "test"):
            scores = getattr(record.quality, split)
            own = rows[rows["split"] == split][["split", "row", "label"]]
            tables.append(_predicted(own, scores.confusion_matrix, task.labels, rng))
        run.write_predictions(pd.concat(tables, ignore_index=True))
    return folder


def _predicted(own: pd.DataFrame, matrix: Any, labels: list[str], rng: Any) -> pd.DataFrame:
    predicted = []
    for i, label in enumerate(labels):
        drawn = np.repeat(np.arange(len(labels)), matrix[i])
        assert len(drawn) == (own["label"] == label).sum()
        predicted.append(rng.permutation(drawn))
    order = np.concatenate(predicted)
    probable = rng.dirichlet(np.ones(len(labels)), len(order)) * 0.4
    probable[np.arange(len(order)), order] += 0.6
    table = own.assign(prediction=[labels[i] for i in order])
    return table.assign(
        **{f"probability_{x}": probable[:, i] for i, x in enumerate(labels)}, weight=np.float32(1)
    )


class Text(HTMLParser):
    """Text of the page, its tags, and the cards of the rows."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.visible: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.visible.append(data)

    @property
    def cards(self) -> list[dict[str, str | None]]:
        return [attrs for tag, attrs in self.tags if tag == "li" and "data-kind" in attrs]


def page_of(folder: StudyFolder, **options: Any) -> str:
    return build_report(folder, **options).read_text(encoding="utf-8")


def test_every_view_is_in_the_report_and_the_summary(study: Make) -> None:
    folder = add_predictions(study(labels=5))
    page = page_of(folder)
    text = Text(page)
    ids = {attrs.get("id") for _, attrs in text.tags}
    assert {"error-labels", "words", "slices", "overlap", "margins", "reliability",
            "label-errors", "rows"} <= ids  # fmt: skip
    summary = folder.summary()
    assert summary
    errors = summary["errors"]
    measured = [r["name"] for r in summary["methods"] if r["quality"]["accuracy"]["n"]]
    assert list(errors["labels"]) == measured
    assert errors["overlap"]["contenders"] == [n for n in measured if n != "baseline"]
    for name in measured:
        row = next(r for r in summary["methods"] if r["name"] == name)
        lines = errors["labels"][name]
        wrong = sum(line["missed"] for line in lines) / sum(line["rows"] for line in lines)
        assert wrong == pytest.approx(1 - row["quality"]["accuracy"]["mean"], abs=1e-9)
    assert 100 < len(text.cards) <= 300


def test_texts_are_escaped(study: Make) -> None:
    folder = add_predictions(study(labels=5, hostile=True), evil=True)
    page = page_of(folder)
    text = Text(page)
    assert not [tag for tag, attrs in text.tags if tag == "img" or "onerror" in attrs]
    assert len(re.findall(r"</script>", page)) == 3
    # a text may change its direction inside an isolated box
    assert "\u202e" not in re.sub(r'<p class="row-text" dir="auto">.*?</p>', "", page, flags=re.S)
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    shown = [v for v in text.visible if "gnp.exe" in v]
    assert len(shown) == len(text.cards)
    assert all("<b>bold</b>" in v for v in shown)


def test_rows_can_be_omitted(study: Make) -> None:
    folder = add_predictions(study(labels=5, seeds=1))
    page = page_of(folder, list_rows=False)
    assert not Text(page).cards
    assert '<h3 id="rows">' not in page
    assert "Words associated with errors" in page
    assert json.loads(folder.summary_file.read_text())["errors"]["words"]


def test_planted_word_is_first_in_the_table(study: Make) -> None:
    folder = add_predictions(study(labels=2, seeds=1, failures=False))
    task = folder.task()
    assert task
    rows = pd.read_parquet(folder.data / task.key / "rows.parquet")
    guilty = rows["text"].str.split().map(lambda own: "word7" in own)
    wanted = set(rows["row"][guilty & (rows["split"] == "test")])
    for run in folder.runs():
        record = run.record()
        assert record
        if record.method.name != "lora":
            continue
        table = run.predictions()
        inside = (table["split"] == "test") & table["row"].isin(wanted)
        other = {"negative": "positive", "positive": "negative"}
        table.loc[inside, "prediction"] = table.loc[inside, "label"].map(other)
        run.write_predictions(table)
    page = page_of(folder)
    errors = (folder.summary() or {})["errors"]
    first = errors["words"]["methods"]["lora"]["suspect"][0]
    assert (first["word"], first["significant"]) == ("word7", True)
    assert [w["word"] for w in errors["words"]["across"]] == ["word7"]
    assert re.search(r"<bdi>word7</bdi></th>.{0,400}?<td>yes <small>&lt;0.001", page)


def test_report_without_predictions(study: Make) -> None:
    folder = study(labels=5, seeds=1)
    page = page_of(folder)
    assert (folder.summary() or {})["errors"] is None
    assert "Words associated with errors" not in page
    assert "Confusion matrix" in page


def test_method_without_predictions_is_named(study: Make) -> None:
    folder = add_predictions(study(labels=5, seeds=1, failures=False))
    for run in folder.runs():
        record = run.record()
        if record and record.method.name == "tfidf":
            run.predictions_file.unlink()
    page = page_of(folder)
    assert "tfidf has no predictions." in page
    assert "tfidf" not in (folder.summary() or {})["errors"]["labels"]


def test_report_is_small(study: Make) -> None:
    assert build_report(add_predictions(study(labels=77))).stat().st_size < 10_000_000


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_rows_are_filtered_in_a_browser(
    study: Make, open_report: Callable[..., Any], width: int
) -> None:
    report = build_report(add_predictions(study(labels=5, hostile=True), evil=True))
    page = open_report(report, viewport={"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width

    cards = page.locator(".rows > li")
    everything = cards.count()
    page.locator("[data-filter=kind]").select_option("disagreement")
    shown = page.locator(".rows > li:visible")
    assert 0 < shown.count() < everything
    kinds = "found => found.every(card => card.dataset.kind.split('|').includes('disagreement'))"
    assert shown.evaluate_all(kinds)
    assert page.locator("[data-shown]").inner_text() == f"{shown.count()} rows"
    page.locator("[data-filter=kind]").select_option("")
    page.locator("[data-filter=wrong]").select_option("0")
    wrong = "found => found.every(card => card.dataset.wrong.split(' ').includes('0'))"
    assert shown.evaluate_all(wrong)
    page.locator("[data-filter=wrong]").select_option("")
    page.locator("[data-filter=text]").fill("nothing holds this")
    assert shown.count() == 0
    page.locator("[data-filter=text]").fill("")
    assert shown.count() == everything

    page.locator("#words-method").select_option("2")
    assert page.locator("#slices-method").input_value() == "2"
