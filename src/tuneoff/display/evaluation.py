"""Terminal output of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tuneoff import formatting as fmt
from tuneoff.comparison.sentences import interval
from tuneoff.evaluation.result import SIGNIFICANT, EvaluatedRun, Evaluation, Interval
from tuneoff.results.metrics import QUALITY_METRICS

MOST_LABELS = 30
"""Maximum number of listed labels, rarest first."""


def render_evaluation(evaluation: Evaluation) -> RenderableType:
    """Return the tables of an evaluation; they fit 80 columns."""
    parts: list[RenderableType] = [_runs(evaluation), Text()]
    if len(evaluation.runs) == 1:
        parts += [_labels(evaluation.runs[0]), Text()]
    lines = [*_pairs(evaluation), *_data(evaluation)]
    return Group(*parts, *map(Text, lines))


def _runs(evaluation: Evaluation) -> Table:
    metrics = list(dict.fromkeys(("accuracy", evaluation.metric)))
    table = _table("run")
    for key in metrics:
        table.add_column(QUALITY_METRICS[key].title, justify="right", no_wrap=True)
    table.add_column("test rows", justify="right", no_wrap=True)
    table.add_column("difference", justify="right", no_wrap=True)
    for run in evaluation.runs:
        found = run.differences.get(evaluation.metric)
        value = run.intervals[evaluation.metric].value
        cells = [_estimate(run.intervals[key]) for key in metrics]
        cells.append(fmt.score(value - found.value) if found else fmt.MISSING)
        cells.append(_difference(found, evaluation.metric) if found else fmt.MISSING)
        table.add_row(Text(fmt.one_line(run.run_id.rpartition("-")[0])), *map(Text, cells))
    return table


def _estimate(found: Interval) -> str:
    """Format as `0.912 ±.016`, with half the width of the nearly symmetric interval."""
    half = (found.high - found.low) / 2
    return f"{fmt.score(found.value)} ±{half:.3f}".replace("±0.", "±.")


def _difference(found: Interval, metric: str) -> str:
    unit = QUALITY_METRICS[metric].unit
    low, high = (fmt.difference(x, unit).partition(" ")[0] for x in (found.low, found.high))
    return f"{fmt.difference(found.value, unit).partition(' ')[0]} ({low} to {high})"


def _labels(run: EvaluatedRun) -> Table:
    table = _table("label")
    for title in ("rows", "precision", "recall", "F1"):
        table.add_column(title, justify="right", no_wrap=True)
    ordered = sorted(run.scores.per_class.items(), key=lambda item: item[1].support)
    for label, scores in ordered[:MOST_LABELS]:
        values = (scores.precision, scores.recall, scores.f1)
        cells = [fmt.count(scores.support)]
        cells += [fmt.score(value) if scores.support else fmt.MISSING for value in values]
        table.add_row(Text(fmt.one_line(label)), *map(Text, cells))
    if len(ordered) > MOST_LABELS:
        table.add_row(Text(f"… {len(ordered) - MOST_LABELS} more"))
    return table


def _pairs(evaluation: Evaluation) -> Iterator[str]:
    if evaluation.pairwise is None:
        return
    metric = QUALITY_METRICS[evaluation.metric]
    words = {"better": "is better than", "worse": "is worse than"}
    words |= {
        "equivalent": "is equivalent to",
        "not_resolved": "does not differ significantly from",
    }
    for pair in evaluation.pairwise["pairs"]:
        first, second = fmt.one_line(pair["first"]), fmt.one_line(pair["second"])
        yield f"{first} {words[pair['answer']]} {second} ({interval(pair, metric)})."
    for skipped in evaluation.pairwise["skipped"]:
        first, second = fmt.one_line(skipped["first"]), fmt.one_line(skipped["second"])
        yield f"{first} and {second} were not compared: {skipped['reason']}."
    yield ""


def _data(evaluation: Evaluation) -> Iterator[str]:
    """Yield sentences about the differences between the new rows and the study's test rows."""
    metric = QUALITY_METRICS[evaluation.metric].title
    yield (
        f"{fmt.count(evaluation.rows)} rows. ±: half the width of the 95 % confidence interval over"
        f" rows. Difference: {metric} on the new rows minus {metric} on the test rows of the study,"
        " in points, with its 95 % confidence interval."
    )
    shift = evaluation.label_shift
    if shift is not None:
        differs = "differ" if shift.p < SIGNIFICANT else "do not differ significantly"
        distance = fmt.percent(100 * shift.distance)
        yield (
            f"Labels: the proportions {differs} from those of the test rows (total variation"
            f" distance {distance}, p = {shift.p:.2g})."
        )
    texts, test = evaluation.texts, evaluation.test_texts
    if texts is not None:
        yield _texts("Texts", texts.lengths.median, texts.lengths.q95, texts.unknown_share)
        yield f"Truncated: {fmt.count(texts.truncated_rows)} rows."
    if test is not None:
        yield _texts("Test rows", test.lengths.median, test.lengths.q95, test.unknown_share)


def _texts(what: str, median: float, q95: float, unknown: float) -> str:
    return (
        f"{what}: median length {median:.0f} tokens, 95 % quantile {q95:.0f},"
        f" {fmt.percent(100 * unknown)} unknown tokens."
    )


def _table(first: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold", min_width=8)
    return table
