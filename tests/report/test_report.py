from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from tuneoff.report import build_report
from tuneoff.report.html import embedded_json
from tuneoff.results.record import ClassScores, RunRecord, Status
from tuneoff.results.store import StudyFolder

Make = Callable[..., StudyFolder]
LOADS = {"src", "href", "srcset", "data", "action", "poster", "background"}


class Page(HTMLParser):
    """Elements, their attributes, and the displayed text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.visible: list[str] = []
        self.style = ""
        self._open: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts.append(data)
        elif self._open == "style":
            self.style += data
        else:
            self.visible.append(data)

    @property
    def figures(self) -> dict[str, Any]:
        plain: dict[str, Any] = json.loads(self.scripts[0])
        return plain


def page(folder: StudyFolder, command: str | None = "tuneoff compare --seeds 3") -> Page:
    return Page(build_report(folder, command).read_text(encoding="utf-8"))


def test_report_names_every_method_and_failure(study: Make) -> None:
    folder = study(labels=8)
    text = " ".join(page(folder).visible)
    for method in folder.spec().methods:
        assert method.name in text
    assert "out of memory" in text
    assert "The process was killed at 7.9 GB <b>resident</b>." in text
    assert "tuneoff compare --seeds 3" in text
    assert "attention_dropout: 0 in place of 0.1" in text
    assert "The tokenizer cut 41 rows." in text
    assert "5e-4" in text
    assert "2.13.0" in text


def test_summary_is_written_next_to_the_report(study: Make) -> None:
    folder = study(labels=2)
    build_report(folder)
    summary = folder.summary()
    assert summary is not None
    assert [row["name"] for row in summary["methods"]] == [m.name for m in folder.spec().methods]


def test_report_makes_no_requests(study: Make) -> None:
    report = page(study(labels=2))
    links = [v for _, attrs in report.elements for k, v in attrs.items() if k in LOADS and v]
    assert links
    assert all(link.startswith("#") for link in links)
    assert not [tag for tag, _ in report.elements if tag in ("link", "iframe", "object", "img")]
    assert "--paper" in report.style
    assert "url(" not in report.style
    assert "@import" not in report.style


def test_policy_allows_only_the_scripts_of_the_report(study: Make) -> None:
    import base64
    import hashlib

    report = page(study(labels=2))
    policy = next(
        attrs["content"]
        for tag, attrs in report.elements
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    for script in report.scripts[1:]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "unsafe-eval" not in policy
    assert "http" not in policy


def test_hostile_names_are_escaped(study: Make) -> None:
    report = page(study(labels=5, hostile=True))
    assert len(report.scripts) == 3  # data, Plotly, the report's script
    assert not [tag for tag, _ in report.elements if tag in ("img", "b>resident")]
    assert all(not key.startswith("on") for _, attrs in report.elements for key in attrs)
    text = " ".join(report.visible)
    assert "</script><script>alert('label')</script>" in text.replace("\u200b", "")
    # strings for Plotly are escaped twice, because Plotly interprets some HTML
    texts = list(_strings(report.figures))
    hostile = [t for t in texts if "script" in t or "onerror" in t]
    assert hostile
    allowed = re.compile(r"</?b>|<br>|<extra></extra>")
    assert not [t for t in texts if "<" in allowed.sub("", t)]
    assert any("&lt;img src=x onerror=alert(1)&gt;" in t for t in hostile)


def _strings(content: Any) -> Any:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value)


def test_embedded_json_cannot_close_its_script() -> None:
    content = {"a": "</script><!--\u2028&", "n": float("nan"), "i": [float("inf"), 1.5]}
    text = embedded_json(content)
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": content["a"], "n": None, "i": [None, 1.5]}


@pytest.mark.parametrize("labels", [2, 77])
def test_all_figures_are_valid(study: Make, labels: int) -> None:
    import plotly.graph_objects as go

    report = page(study(labels=labels))
    figures = report.figures
    assert {"bars-accuracy", "trainable-bars", "confusion-matrix", "class-f1", "labels",
            "length-histogram", "length-boxes", "against-train-seconds", "validation-loss",
            "loss-0"} <= figures.keys()  # fmt: skip
    for figure in figures.values():
        go.Figure(_coloured(figure))
    placed = {attrs["data-plot"] for _, attrs in report.elements if "data-plot" in attrs}
    assert placed == figures.keys()


def _coloured(content: Any) -> Any:
    """Return the figure with plain colours and without attributes for the page."""
    if isinstance(content, list):
        return [_coloured(item) for item in content]
    if not isinstance(content, dict):
        return content
    if "$c" in content:
        return "#123456"
    return {
        key: _coloured(value)
        for key, value in content.items()
        if not ({"data", "layout"} <= content.keys() and key in ("variants", "height"))
    }


def test_report_is_small(study: Make) -> None:
    assert build_report(study(labels=77)).stat().st_size < 10_000_000


def test_wording_depends_on_the_intervals(study: Make) -> None:
    text = html.unescape(build_report(study(labels=77)).read_text(encoding="utf-8"))
    lead = re.search(r'<p class="lead">(.*?)</p>', text, re.S)
    assert lead
    words = re.sub(r"<[^>]+>", "", lead[1])
    assert "on average over three seeds" in words
    assert "so these seeds do not resolve which one is better" in words
    assert "significant" not in words


def test_one_seed_has_no_interval(study: Make) -> None:
    text = " ".join(page(study(labels=2, seeds=1, failures=False)).visible)
    assert "the variance between seeds is unknown" in text
    assert "±0" not in text


def test_report_of_a_study_without_results(study: Make) -> None:
    folder = study(labels=2, seeds=1)
    for run in folder.runs():
        record = run.record()
        assert record
        run.write_record(
            RunRecord(
                run_id=record.run_id,
                status=Status.FAILED,
                method=record.method,
                seed=record.seed,
                model=record.model,
                metric=record.metric,
                data=record.data,
                train={},
            )
        )
    text = " ".join(page(folder, None).visible)
    assert "nothing to compare" in text
    assert "no error message" in text


def test_report_before_the_first_run(study: Make) -> None:
    folder = study(labels=2, seeds=1)
    for run in folder.runs():
        run.record_file.unlink()
    assert "not run" in " ".join(page(folder).visible)


def test_runs_of_earlier_settings_are_excluded(study: Make) -> None:
    folder = study(labels=2, seeds=1, failures=False)
    runs = {run.record_file: run.record() for run in folder.runs()}
    known = [record.run_id for record in runs.values() if record][:2]
    build_report(folder, run_ids=known)
    summary = folder.summary()
    assert summary
    assert sorted(r for row in summary["methods"] for r in row["runs"]) == sorted(known)


# The verdict.


def test_verdict_has_every_pair_and_the_recommendation(study: Make) -> None:
    folder = study(labels=2, predictions=True)
    report = page(folder)
    text = " ".join(" ".join(report.visible).split())
    summary = folder.summary()
    assert summary
    pairs = summary["pairwise"]["pairs"]
    assert len(pairs) == 28  # pairs of eight methods; ia3 has no result
    for pair in pairs:
        either = (f"{pair['first']} – {pair['second']}", f"{pair['second']} – {pair['first']}")
        assert any(names in text for names in either)
    cells = [attrs for tag, attrs in report.elements if tag == "td" and "title" in attrs]
    assert len(cells) == 2 * len(pairs)
    kinds = [cell["class"] for cell in cells]
    assert kinds.count("better") == kinds.count("worse") > 5
    assert all("95 % interval" in (cell["title"] or "") for cell in cells)
    found = summary["recommendation"]
    assert f"Take {found['name']}" in text
    assert found["command"] in text
    assert str(folder.path) in found["command"]
    assert "#verdict" in [attrs.get("href") for tag, attrs in report.elements if tag == "a"]


def test_verdict_names_methods_that_exceed_a_limit(study: Make) -> None:
    folder = study(labels=2, seeds=1, predictions=True)
    folder.write_spec(replace(folder.spec(), limits={"peak_memory_bytes": 5e8}))
    text = " ".join(" ".join(page(folder).visible).split())
    assert re.search(r"full has a peak memory of 8\d\d MB, above the limit of 500 MB\.", text)
    summary = folder.summary()
    assert summary
    assert summary["recommendation"]["name"] not in ("full", "weighted", "lora", "partial")


def test_groups_widen_the_intervals(study: Make) -> None:
    folder = study(labels=6, predictions=True, failures=False)
    task = folder.task()
    assert task
    run = next(folder.runs())
    page(folder)
    alone = folder.summary()
    rows = run.predictions()[["split", "row", "label"]].assign(text="some words", weight=1.0)
    # adjacent rows have the same label and prediction, so their errors are correlated
    rows["group"] = [f"document {row // 10}" for row in rows["row"]]
    rows.to_parquet(folder.data / task.key / "rows.parquet", index=False)
    text = " ".join(page(folder).visible)
    together = folder.summary()
    assert alone
    assert together
    groups = rows["group"].nunique()
    pairs = list(zip(alone["pairwise"]["pairs"], together["pairwise"]["pairs"], strict=True))
    assert {pair["groups"] for pair, _ in pairs} == {None}
    assert {pair["groups"] for _, pair in pairs} == {groups}
    wider = [two["from_rows"] / one["from_rows"] for one, two in pairs]
    assert sorted(wider)[len(wider) // 2] > 1.3
    assert all(one["difference"] == two["difference"] for one, two in pairs)
    assert f"are in {groups} groups" in text


def test_heat_map_excludes_labels_without_test_rows(study: Make) -> None:
    folder = study(labels=5)
    task = folder.task()
    assert task
    gone, *left = task.labels
    for run in folder.runs():
        record = run.record()
        assert record
        if record.quality.test is not None:
            each = {**record.quality.test.per_class, gone: ClassScores(0.0, 0.0, 0.0, 0)}
            test = replace(record.quality.test, per_class=each)
            run.write_record(replace(record, quality=replace(record.quality, test=test)))
    figure = page(folder).figures["class-f1"]
    # with an F1 of 0 it would be the hardest label
    assert sorted(figure["layout"]["yaxis"]["ticktext"]) == sorted(left)
    assert len(figure["data"][0]["z"]) == len(left)


def test_pareto_front_figure(study: Make) -> None:
    folder = study(labels=6, predictions=True, failures=False)
    report = page(folder)
    summary = folder.summary()
    assert summary is not None
    places = {e["name"]: e["place"] for e in summary["pareto_fronts"]["train_seconds"]}
    assert (places["tfidf"], places["head"]) == ("surely", "off")
    traces = report.figures["against-train-seconds"]["data"]
    pale = {t["text"][0] for t in traces if t.get("opacity", 1) < 1}
    drawn = {t["text"][0] for t in traces if "text" in t}
    assert pale == {name for name in drawn if places[name] == "off"}
    rings = next(t for t in traces if t.get("marker", {}).get("symbol") == "circle-open")
    certain = [e for e in summary["pareto_fronts"]["train_seconds"] if e["place"] == "surely"]
    assert sorted(rings["x"]) == [pytest.approx(e["cost"], rel=1e-4) for e in certain]
    said = next(
        a["aria-label"] for _, a in report.elements if a.get("data-plot") == "against-train-seconds"
    )
    assert said
    assert re.search(r"tfidf 0\.\d+ at 1\.4 s, surely on the Pareto front", said)
    assert "Pale methods are not on it" in " ".join(report.visible)


def test_recommendation_by_goal_with_commands(study: Make) -> None:
    folder = study(labels=6, predictions=True, failures=False)
    report = page(folder)
    text = " ".join(report.visible)
    summary = folder.summary()
    assert summary is not None
    goals = summary["recommendation"]["by_goal"]
    assert [goal["goal"] for goal in goals] == [
        "most accurate",
        "fastest training",
        "lowest memory",
        "smallest saved weights",
    ]
    for goal in goals:
        assert goal["goal"] in text
        assert goal["command"] in text
    assert "latency" not in {
        part.strip() for part in report.visible
    }  # records of an earlier version have no latency


def test_verdict_replaces_overlapping_intervals(study: Make) -> None:
    folder = study(labels=2, predictions=True)
    text = html.unescape(build_report(folder).read_text("utf-8"))
    lead = re.search(r'<p class="lead">(.*?)</p>', text, re.S)
    assert lead
    assert "Take " in lead[1]
    assert "overlap" not in lead[1]
    summary = folder.summary()
    assert summary
    first, *others = summary["recommendation"]["sentences"]
    assert others
    # recommendation, certainty, cost and ruled-out methods are each stated once
    assert all(said in lead[1] for said in (first, *others))
    assert all(text.count(said) == 1 for said in (first, *others))


def test_no_verdict_without_predictions(study: Make) -> None:
    folder = study(labels=2)
    report = page(folder)
    assert "#verdict" not in [attrs.get("href") for tag, attrs in report.elements if tag == "a"]
    summary = folder.summary()
    assert summary
    assert summary["pairwise"] is summary["recommendation"] is None


def test_hostile_names_are_escaped_in_the_verdict(study: Make) -> None:
    report = page(study(labels=5, hostile=True, predictions=True))
    assert len(report.scripts) == 3
    assert not [tag for tag, _ in report.elements if tag == "img"]
    assert all(not key.startswith("on") for _, attrs in report.elements for key in attrs)
    titles = [attrs["title"] or "" for tag, attrs in report.elements if "title" in attrs]
    assert any("lora<img src=x onerror=alert(1)>" in title for title in titles)


def test_invalid_predictions_file_is_reported(study: Make) -> None:
    folder = study(labels=2, seeds=2, failures=False, predictions=True)
    runs = {run.path.name: run for run in folder.runs()}
    broken = next(name for name in runs if name.startswith("lora-s0"))
    missing = next(name for name in runs if name.startswith("full-s1"))
    runs[broken].predictions_file.write_bytes(b"PAR1 half a file")
    runs[missing].predictions_file.unlink()
    text = " ".join(page(folder).visible)
    assert f"{missing}, {broken}" in text or f"{broken}, {missing}" in text
    summary = folder.summary()
    assert summary
    assert set(summary["pairwise"]["without_predictions"]) == {broken, missing}
