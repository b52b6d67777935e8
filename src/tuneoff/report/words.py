"""Title and opening sentences of the report."""

from __future__ import annotations

from markupsafe import Markup, escape

from tuneoff import formatting as fmt
from tuneoff.comparison.summary import mean_of
from tuneoff.report.figures.base import Material
from tuneoff.results.metrics import QUALITY_METRICS, Metric
from tuneoff.results.summary import MethodSummary

NBSP = "\N{NO-BREAK SPACE}"
"""Character that keeps a number and its unit on one line."""


def title(material: Material, model: str) -> str:
    """Return the title of the report."""
    n = len(material.summary["methods"])
    labels = len(material.summary["labels"])
    if not model:
        found = (
            "One set of predictions" if n == 1 else f"{_number(n).capitalize()} sets of predictions"
        )
        return f"{found} for {_number(labels)} labels"
    compared = (
        "One fine-tuning method" if n == 1 else f"{_number(n).capitalize()} fine-tuning methods"
    )
    return f"{compared} compared: {model}, {_number(labels)} labels"


def answer(material: Material) -> list[Markup]:
    """Return the recommendation in sentences, with its confidence, cost and what is ruled out."""
    metric = QUALITY_METRICS.get(material.summary["metric"])
    rows = [
        r for r in material.measured if metric and mean_of(r, "quality", metric.key) is not None
    ]
    if metric is None or not rows:
        return [Markup("No run has finished yet, so there is nothing to compare.")]
    best = rows[0]
    recommended = material.summary["recommendation"]
    if recommended:
        close = [row for row in rows[1:] if row["name"] in recommended["not_worse"]]
        sentences = [
            Markup("<b>{}</b>").format(recommended["sentences"][0]),
            *map(escape, recommended["sentences"][1:]),
            Markup("<a href='#verdict'>See the evidence.</a>"),
        ]
    else:
        close = [row for row in rows[1:] if _overlap(best, row, metric)]
        sentences = [_lead(material, best, metric)]
        sentences += [*_followers(rows, best, close, metric), *_cost(best, close)]
    sentences += _floor(material, best, close, metric)
    broken = [row["name"] for row in material.summary["methods"] if row["failed"]]
    if broken:
        verb = "has" if len(broken) == 1 else "have"
        sentences.append(
            Markup("{} {} failed runs; <a href='#failures'>they are listed below</a>.").format(
                _names(broken), verb
            )
        )
    return sentences


def _lead(material: Material, best: MethodSummary, metric: Metric) -> Markup:
    stat = best["quality"][metric.key]
    test = fmt.count(material.summary["rows"]["test"])
    direction = "highest" if metric.higher_is_better else "lowest"
    if stat["low"] is None:
        return Markup(
            "On the {} test rows <b>{}</b> has the {} {}, {}, with one seed: the variance between "
            "seeds is unknown."
        ).format(test, best["name"], direction, metric.title, fmt.score(stat["mean"]))
    return Markup(
        "On the {} test rows <b>{}</b> has the {} {}, {} on average over {} seeds "
        "(95 % interval {} to {})."
    ).format(
        test,
        best["name"],
        direction,
        metric.title,
        fmt.score(stat["mean"]),
        _number(stat["n"]),
        fmt.score(stat["low"]),
        fmt.score(stat["high"]),
    )


def _followers(
    rows: list[MethodSummary], best: MethodSummary, close: list[MethodSummary], metric: Metric
) -> list[Markup]:
    if len(rows) == 1:
        return []
    if close:
        shown = [
            Markup("<b>{}</b> ({})").format(r["name"], fmt.score(mean_of(r, "quality", metric.key)))
            for r in close[:5]
        ]
        more = f" and {_number(len(close) - 5)} more" if len(close) > 5 else ""
        one = len(close) == 1
        return [
            Markup(
                "The {} of {}{} {} that of the best method, so these seeds do not resolve which "
                "one is better."
            ).format(
                "interval" if one else "intervals",
                _join(shown) if not more else Markup(", ").join(shown),
                more,
                "overlaps" if one else "overlap",
            )
        ]
    second = rows[1]
    text = Markup("The second best is <b>{}</b> with {}").format(
        second["name"], fmt.score(mean_of(second, "quality", metric.key))
    )
    if best["quality"][metric.key]["low"] is None or second["quality"][metric.key]["low"] is None:
        return [text + "."]
    return [text + "; no other interval overlaps with that of the best method."]


def _cost(best: MethodSummary, close: list[MethodSummary]) -> list[Markup]:
    seconds = mean_of(best, "cost", "train_seconds")
    if seconds is None:
        return []
    memory = mean_of(best, "cost", "peak_memory_bytes")
    sentences = [
        Markup("<b>{}</b> takes {} of training{}{}.").format(
            best["name"],
            fmt.seconds(seconds, gap=NBSP),
            f" and {_size(memory)} of memory" if memory is not None else "",
            _trains(best),
        )
    ]
    tuned = [row for row in close if row["family"] != "classical"]
    timed = [(mean_of(row, "cost", "train_seconds"), row) for row in tuned]
    quicker = [(s, row) for s, row in timed if s is not None and s < 0.9 * seconds]
    if quicker:
        least, row = min(quicker, key=lambda pair: pair[0])
        memory = mean_of(row, "cost", "peak_memory_bytes")
        sentences.append(
            Markup(
                "Of the fine-tuned methods whose intervals overlap with it, <b>{}</b> is the "
                "fastest: {}{}{}."
            ).format(
                row["name"],
                fmt.seconds(least, gap=NBSP),
                f", {_size(memory)}" if memory is not None else "",
                _trains(row),
            )
        )
    return sentences


def _trains(row: MethodSummary) -> str:
    parameters = row["parameters"]
    if not parameters or row["family"] in ("classical", "baseline"):
        return ""
    share = parameters["trainable_percent"]
    part = "all" if share >= 100 else fmt.percent(share, gap=NBSP)
    return f", training {part} of the weights"


def _floor(
    material: Material, best: MethodSummary, close: list[MethodSummary], metric: Metric
) -> list[Markup]:
    """Compare the best method with the classical reference and the majority label."""
    level = [row for row in (best, *close) if row["family"] == "classical"]
    found = [
        Markup(
            "<b>{}</b> uses no encoder and is not ruled out: these runs do not show that "
            "fine-tuning helps here."
        ).format(row["name"])
        for row in level[:1]
        if close
    ]
    parts = [
        Markup("<b>{}</b>, without an encoder, reaches {}").format(
            row["name"], fmt.score(mean_of(row, "quality", metric.key))
        )
        for row in material.measured
        if row["family"] == "classical" and row not in level
    ]
    majority = material.summary["reference"]["majority"]
    if majority and metric.key in ("accuracy", "macro_f1"):
        score = majority["accuracy" if metric.key == "accuracy" else "macro_f1"]
        parts.append(
            Markup("predicting “{}” for all rows reaches {}").format(
                fmt.shorten(majority["label"], 40), fmt.score(score)
            )
        )
    if parts:
        found.append(Markup("For comparison, {}.").format(_join(parts)))
    return found


def _size(value: float) -> str:
    return fmt.size(value).replace(" ", NBSP)


def _overlap(best: MethodSummary, row: MethodSummary, metric: Metric) -> bool:
    one, other = best["quality"][metric.key], row["quality"][metric.key]
    if one["low"] is None or one["high"] is None:
        return False
    if other["low"] is None or other["high"] is None:
        return False
    return one["low"] <= other["high"] and other["low"] <= one["high"]


def _names(names: list[str]) -> Markup:
    return _join([Markup("<b>{}</b>").format(name) for name in names])


def _join(parts: list[Markup]) -> Markup:
    parts = [escape(part) for part in parts]
    if len(parts) < 2:
        return Markup("").join(parts)
    return Markup(", ").join(parts[:-1]) + Markup(" and ") + parts[-1]


def _number(n: int) -> str:
    words = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ]
    return words[n] if n < len(words) else f"{n:,}"
