"""Content of the verdict section: recommendation, pairwise comparison, and its numbers."""

from __future__ import annotations

from dataclasses import dataclass

from tuneoff import formatting as fmt
from tuneoff.comparison.pairwise import pair_of
from tuneoff.comparison.sentences import interval, would_resolve
from tuneoff.report.figures.base import Material
from tuneoff.report.tables import COST_COLUMNS, Cell, Table, grouped
from tuneoff.results.metrics import QUALITY_METRICS, Metric
from tuneoff.results.summary import Answer, Goal, Pair, Pairwise, Recommendation, RunnerUp


@dataclass(frozen=True)
class MatrixCell:
    """A cell of the matrix: the method of the row compared with that of the column."""

    kind: str
    """Key of the answer, used as the CSS class."""
    word: str
    """Answer as text."""
    note: str
    """Difference with its sign, in the metric's unit."""
    title: str
    """Tooltip with the interval."""


@dataclass(frozen=True)
class Verdict:
    """Content of the verdict section."""

    command: str | None
    """Command to predict with the recommended method."""
    costs: Table | None
    """Costs of the recommended method and the runner-up."""
    runner_up: str
    """Sentence about the runner-up."""
    excluded: list[tuple[str, str]]
    """Excluded methods with the reason."""
    by_goal: Table | None
    """Recommendation by goal; None if it is the same for all goals."""
    commands: list[tuple[str, str]]
    """Command to predict with each method of `by_goal`."""
    names: list[str]
    """Methods of the matrix, best first."""
    matrix: list[tuple[str, list[MatrixCell | None]]]
    """Pairwise comparison: each method with its row of cells."""
    legend: str
    """Note below the matrix."""
    pairs: Table
    """Pairwise comparison in numbers."""
    explained: str
    """Note below the numbers."""
    skipped: list[tuple[str, str]]
    """Reasons why methods or runs were not compared, with their names."""


def content(material: Material) -> Verdict | None:
    """Return the content of the section; None if nothing was compared."""
    found, recommended = material.summary["pairwise"], material.summary["recommendation"]
    if found is None:
        return None
    metric = QUALITY_METRICS[found["metric"]]
    compared = {name for pair in found["pairs"] for name in (pair["first"], pair["second"])}
    names = [row["name"] for row in material.rows if row["name"] in compared]
    pairs = [
        pair
        for place, first in enumerate(names)
        for second in names[place + 1 :]
        if (pair := pair_of(found, first, second))
    ]
    runner_up = recommended["runner_up"] if recommended else None
    goals = recommended["by_goal"] if recommended else []
    # if one method is best for all goals, there is nothing to show by goal
    differ = len({goal["name"] for goal in goals}) > 1
    return Verdict(
        command=recommended["command"] if recommended else None,
        costs=_costs(recommended, runner_up) if recommended and runner_up else None,
        runner_up=_runner_up(recommended, runner_up, metric) if recommended and runner_up else "",
        excluded=[(e["name"], e["reason"]) for e in recommended["excluded"]] if recommended else [],
        by_goal=_by_goal(goals, metric) if differ else None,
        commands=_commands(goals) if differ else [],
        names=names,
        matrix=[
            (first, [_meeting(found, first, second, metric) for second in names]) for first in names
        ],
        legend=_legend(found, metric),
        pairs=_pairs(pairs, metric),
        explained=_explained(found, pairs),
        skipped=_skipped(found),
    )


def word(answer: Answer) -> str:
    """Return one of the four answers as text."""
    return answer.replace("_", " ")


def _meeting(found: Pairwise, first: str, second: str, metric: Metric) -> MatrixCell | None:
    pair = None if first == second else pair_of(found, first, second)
    if pair is None:
        return None
    about = "" if pair["scope"] == "methods" else "; for these models, one seed"
    return MatrixCell(
        pair["answer"],
        word(pair["answer"]),
        fmt.difference(pair["difference"], metric.unit).partition(" ")[0],
        f"{first} compared with {second}: {interval(pair, metric)}{about}",
    )


def _legend(found: Pairwise, metric: Metric) -> str:
    margin = fmt.margin(found["margin"], metric.unit)
    single = all(pair["scope"] == "models" for pair in found["pairs"])
    again = "over other test rows, for these models" if single else "over other seeds and test rows"
    of = f" A point is 0.01 of {metric.title}." if metric.unit == "share" else ""
    return (
        "Each cell compares the method of the row with that of the column, with the difference of "
        f"their means below. Better and worse: the difference is significant {again}. The "
        "probability of any false claim, over all pairs of a study, is at most 5 %. Equivalent: "
        f"the methods are shown to differ by less than {margin}. Not resolved: the data do not "
        f"decide between these answers, which does not mean that the methods are equal.{of}"
    )


def _pairs(pairs: list[Pair], metric: Metric) -> Table:
    heads = [
        "pair",
        "answer",
        "difference",
        "95 % interval",
        "p, adjusted",
        "only first correct",
        "only second correct",
        "McNemar’s p",
        "needed to resolve",
    ]
    rows = []
    for pair in pairs:
        low, high = (
            fmt.difference(pair[key], metric.unit).partition(" ")[0] for key in ("low", "high")
        )
        counts = pair["mcnemar"]
        rows.append(
            [
                Cell(f"{pair['first']} – {pair['second']}"),
                Cell(word(pair["answer"])),
                Cell(fmt.difference(pair["difference"], metric.unit), pair["difference"]),
                Cell(f"{low} to {high}", pair["low"]),
                Cell(probability(pair["p_adjusted"]), pair["p_adjusted"]),
                Cell(_rows(counts["only_first"]), counts["only_first"]),
                Cell(_rows(counts["only_second"]), counts["only_second"]),
                Cell(probability(counts["p_adjusted"]), counts["p_adjusted"]),
                Cell(would_resolve(pair) or fmt.MISSING),
            ]
        )
    return Table(heads, rows)


def probability(p: float) -> str:
    """Format a P value as `0.034`, or `<0.001`."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _rows(mean: float) -> str:
    return fmt.count(mean) if mean >= 99.5 or mean == round(mean) else f"{mean:.1f}"


def _explained(found: Pairwise, pairs: list[Pair]) -> str:
    single = any(pair["scope"] == "models" for pair in pairs)
    seeds = (
        " If a method has one seed, the answer is about its one model: it covers other test rows, "
        "but not other seeds."
        if single
        else ""
    )
    grouped_rows = next((pair["groups"] for pair in pairs if pair.get("groups")), None)
    together = (
        f" The test rows are in {fmt.count(grouped_rows)} groups. The bootstrap draws whole "
        "groups, and McNemar’s test exchanges the methods in whole groups."
        if grouped_rows
        else ""
    )
    looks = found.get("looks")
    again = (
        f" The study analysed its result after {looks['first']} seeds and after each further one. "
        "All intervals are widened so that they are valid at all these looks together (repeated "
        "confidence intervals, Jennison and Turnbull)."
        if looks
        else ""
    )
    guessing = (
        f" Pairs with a method that is no better than guessing ({', '.join(found['guessing'])}) "
        "are adjusted separately, so they do not reduce the power for the other pairs."
        if found.get("guessing")
        else ""
    )
    return (
        "The interval is for the pair alone, without correction for the number of pairs. The "
        "adjusted p is the probability of at least such a difference in any of the pairs if there "
        "were none (step-down procedure of Romano and Wolf). “Only first correct” is the number of "
        "test rows that the first method predicts correctly and the second one does not, as a mean "
        "over all pairs of their models. McNemar’s test checks whether this number and “only "
        "second correct” differ by more than chance. “Needed to resolve” estimates the seeds or "
        "test rows with which a difference of this size would be resolved in 80 % of studies."
        f"{again}{guessing}{seeds}{together}"
    )


def _skipped(found: Pairwise) -> list[tuple[str, str]]:
    texts = [(f"{s['first']} – {s['second']}", s["reason"]) for s in found["skipped"]]
    reasons = found.get("unusable_predictions") or {}  # missing in summaries of older versions
    texts += [
        (run_id, reasons.get(run_id, "its predictions are missing or cannot be read"))
        for run_id in found["without_predictions"]
    ]
    return grouped(texts)


def _costs(recommended: Recommendation, runner_up: RunnerUp) -> Table:
    entries = [(e["name"] or "", e["costs"]) for e in (recommended, runner_up)]
    shown = {
        key: (title, show)
        for key, (title, show) in COST_COLUMNS.items()
        if key != "latency_seconds" or any(costs.get(key) is not None for _, costs in entries)
    }
    rows = [
        [Cell(name), *(Cell(show(costs.get(key))) for key, (_, show) in shown.items())]
        for name, costs in entries
    ]
    return Table(["", *(title for title, _ in shown.values())], rows)


def _by_goal(found: list[Goal], metric: Metric) -> Table:
    rows = []
    for goal in found:
        show = COST_COLUMNS[goal["key"]][1] if goal["key"] in COST_COLUMNS else fmt.score
        other = goal["runner_up"]
        rows.append(
            [
                Cell(goal["goal"]),
                Cell(goal["name"]),
                Cell(show(goal["figure"]), goal["figure"]),
                Cell(f"{other['name']} · {show(other['figure'])}" if other else fmt.MISSING),
                Cell(_evidence(goal, metric)),
            ]
        )
    return Table(["goal", "method", "value", "second", "evidence"], rows, words=(1, 3, 4))


def _evidence(goal: Goal, metric: Metric) -> str:
    pair = goal["evidence"]
    if pair is None:
        return fmt.MISSING
    return f"{compared(pair)}: {interval(pair, metric)}"


def compared(pair: Pair) -> str:
    """Return the answer as text, such as `no significant difference from full`."""
    how = {
        "better": "better than",
        "worse": "worse than",
        "equivalent": "equivalent to",
        "not_resolved": "no significant difference from",
    }
    return f"{how[pair['answer']]} {pair['second']}"


def _commands(found: list[Goal]) -> list[tuple[str, str]]:
    return list({goal["name"]: goal["command"] for goal in found if goal["command"]}.items())


def _runner_up(recommended: Recommendation, other: RunnerUp, metric: Metric) -> str:
    name = recommended["name"]
    pair = other["evidence"]
    if pair is None:
        return f"The runner-up is {other['name']}; the two were not compared."
    return (
        f"The runner-up is {other['name']}. {name} is {compared(pair)} ({interval(pair, metric)})."
        if pair["answer"] != "not_resolved"
        else f"The runner-up is {other['name']}. The difference of {name} from it is not resolved "
        f"({interval(pair, metric)})."
    )
