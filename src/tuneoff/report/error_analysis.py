"""Content of the error analysis section: sentences and tables for the template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tuneoff import formatting as fmt
from tuneoff.error_analysis import ErrorAnalysis
from tuneoff.error_analysis.rows import KINDS, ListedRow
from tuneoff.error_analysis.slices import Slice
from tuneoff.error_analysis.words import SuspectWord
from tuneoff.report.figures.base import Material
from tuneoff.report.tables import Cell, Table

SLICES = 12
"""Maximum number of slices per method."""


@dataclass(frozen=True)
class RateLine:
    """Error rate of a word or slice, with a reference."""

    name: str
    """The word, or the name of the slice."""
    note: str
    """Text of a pair, or kind of slice."""
    rows: int
    """Number of rows."""
    errors: int
    """Number of errors."""
    rate: float
    """Error rate: errors / rows."""
    low: float
    """Lower end of the 95 % interval of the rate."""
    high: float
    """Upper end of the interval."""
    reference: float
    """Error rate of all rows (for words) or of the other rows (for slices)."""
    significant: bool
    """Whether the difference from the reference is significant."""
    q: str
    """False discovery rate."""


@dataclass(frozen=True)
class RowCard:
    """A row in the list of rows, with the keys for the filter."""

    id: str
    """Row number, or another id."""
    label: str
    """True label."""
    text: str | None
    """Shortened text."""
    pair: str | None
    """Shortened second text of a pair."""
    reasons: list[str]
    """Displayed reasons for listing the row."""
    kinds: str
    """Keys of the reasons, for the filter."""
    label_place: int
    """Index of the true label, for the filter."""
    wrong: str
    """Indices of the methods that predict the row wrongly, for the filter."""
    answers: list[tuple[str, bool, str]]
    """(predicted label, whether it is correct, methods with their probabilities)."""


def content(material: Material) -> dict[str, Any] | None:
    """Return the content for the template; None without predictions."""
    found = material.errors
    if found is None:
        return None
    names = [row["name"] for row in material.measured if row["name"] in found.labels]
    return {
        "findings": findings(found),
        "names": names,
        "words": {name: word_lines(found, name) for name in names} if found.words else None,
        "significant_words": {name: found.words.methods[name].significant for name in names}
        if found.words
        else {},
        "frequent": {name: _frequent(found, name) for name in names} if found.words else None,
        "tested": found.words.tested if found.words else 0,
        "across": _across(found, names),
        "slices": {name: slice_lines(found, name) for name in names},
        "slices_tested": found.slices.tested,
        "pairs": _pairs(found, names),
        "calibration": _calibration(found, names),
        "suspects": found.suspects,
        "suspects_missing": found.suspects_missing,
        "ambiguity": _ambiguity(found, names),
        "rows": [_card(row, material.summary["labels"], names) for row in found.listed],
        "reasons": {
            key: words
            for key, words in KINDS.items()
            if any(key in row.kinds for row in found.listed)
        },
    }


def findings(found: ErrorAnalysis) -> list[str]:
    """Return the opening of the section, with one sentence per part of the analysis."""
    overlap = found.overlap
    sentences = []
    if len(overlap.contenders) > 1:
        gain = overlap.oracle_accuracy - overlap.best_accuracy
        sentences.append(
            f"{fmt.count(overlap.all_wrong)} of the {fmt.count(found.rows)} test rows "
            f"({fmt.percent(100 * overlap.all_wrong / found.rows)}) are wrong with all methods"
            f"{_left_out(found)}. An oracle that selects the right method for each row would reach "
            f"an accuracy of {fmt.percent(100 * overlap.oracle_accuracy)}, "
            f"{100 * gain:.1f} points above {overlap.best} alone. A part of this gain is due to "
            "chance: even two methods that guess are rarely wrong on the same row."
        )
    sentences += [*_word_finding(found), *_slice_finding(found), *_calibration_finding(found)]
    return sentences


def _left_out(found: ErrorAnalysis) -> str:
    excluded = len(found.overlap.contenders) < len(found.labels)
    return " except the untrained baseline" if excluded else ""


def _word_finding(found: ErrorAnalysis) -> list[str]:
    if found.words is None:
        return []
    best = found.overlap.best
    own = [w for w in found.words.methods[best].suspect if w.significant]
    if not own:
        return [
            f"No word is significantly more frequent in the errors of {best} than in its other "
            f"rows ({fmt.count(found.words.tested)} tested)."
        ]
    shown = ", ".join(
        f"“{fmt.one_line(w.word)}” ({fmt.percent(100 * w.rate)} wrong)" for w in own[:3]
    )
    return [f"Words with significantly more errors of {best}: {shown}."]


def _slice_finding(found: ErrorAnalysis) -> list[str]:
    best = found.overlap.best
    worst = next((s for s in found.slices.methods[best] if s.significant and s.rate > s.rest), None)
    if worst is None:
        return [f"No subset of the rows is significantly harder for {best} than the rest."]
    return [
        f"The subset on which {best} is most significantly worse: {_slice_name(worst)}, with an "
        f"error rate of {fmt.percent(100 * worst.rate)} compared with "
        f"{fmt.percent(100 * worst.rest)} on the other rows."
    ]


def _calibration_finding(found: ErrorAnalysis) -> list[str]:
    own = found.confidence.get(found.overlap.best)
    if own is None or own.scaling is None:
        return []
    name, scaled = found.overlap.best, own.scaling
    bias = "overconfident" if scaled.temperature > 1.05 else "underconfident"
    if 0.95 <= own.scaling.temperature <= 1.05:
        return [f"The probabilities of {found.overlap.best} are well calibrated on average."]
    temperature = f"a temperature of {scaled.temperature:.2f}, fitted on the validation rows,"
    if scaled.log_loss >= own.log_loss or scaled.ece >= own.ece:
        return [
            f"Temperature scaling does not improve the probabilities of {name}: {temperature} "
            f"changes the log loss on the test rows from {fmt.score(own.log_loss)} to "
            f"{fmt.score(scaled.log_loss)} and the calibration error from {fmt.score(own.ece)} to "
            f"{fmt.score(scaled.ece)}."
        ]
    return [
        f"{name} is {bias}: {temperature} reduces its calibration error from "
        f"{fmt.score(own.ece)} to {fmt.score(scaled.ece)} without changing any prediction."
    ]


def word_lines(found: ErrorAnalysis, name: str) -> list[RateLine]:
    """Return the words over-represented in one method's errors, most significant first."""
    if found.words is None:
        return []
    own = found.words.methods[name]
    return [_word_line(word, own.rate) for word in own.suspect]


def _word_line(word: SuspectWord, reference: float) -> RateLine:
    return RateLine(
        fmt.one_line(word.word), _side(word.side), word.rows, word.errors,
        word.rate, word.low, word.high, reference, word.significant, _q(word.q),
    )  # fmt: skip


def _side(side: str) -> str:
    return f"in the {side} text" if side else ""


def _word_name(word: str, side: str) -> str:
    return fmt.one_line(word) + (f" ({side} text)" if side else "")


def slice_lines(found: ErrorAnalysis, name: str) -> list[RateLine]:
    """Return the slices that differ most significantly from the other rows for one method."""
    return [
        RateLine(
            _slice_name(s),
            s.kind,
            s.rows,
            s.errors,
            s.rate,
            s.low,
            s.high,
            s.rest,
            s.significant,
            _q(s.q),
        )
        for s in found.slices.methods[name][:SLICES]
    ]


def _slice_name(part: Slice) -> str:
    name = fmt.shorten(part.name, 60)
    return f"“{name}”" if part.kind in ("label", "group") else name


def _q(q: float) -> str:
    return "<0.001" if q < 0.001 else f"{q:.3f}"


def _frequent(found: ErrorAnalysis, name: str) -> Table:
    assert found.words is not None
    rows = [
        [
            Cell(_word_name(w.word, w.side)),
            Cell(fmt.count(w.errors), w.errors),
            Cell(fmt.percent(100 * w.share_of_errors), w.share_of_errors),
            Cell(fmt.percent(100 * w.share_of_rows), w.share_of_rows),
        ]
        for w in found.words.methods[name].frequent
    ]
    return Table(["word", "errors with it", "% of errors", "% of all rows"], rows)


def _across(found: ErrorAnalysis, names: list[str]) -> Table | None:
    if found.words is None or not found.words.across or len(names) < 2:
        return None
    rows = [
        [
            Cell(_word_name(w.word, w.side)),
            Cell(fmt.count(w.rows), w.rows),
            *(
                Cell(fmt.percent(100 * w.rates[n]), w.rates[n], best=n in w.significant)
                for n in names
            ),
        ]
        for w in found.words.across
    ]
    overall = {n: found.words.methods[n].rate for n in names}
    rows.append(
        [
            Cell("all rows"),
            Cell(fmt.count(found.rows), found.rows),
            *(Cell(fmt.percent(100 * overall[n]), overall[n]) for n in names),
        ]
    )
    return Table(["word", "rows", *names], rows)


def _pairs(found: ErrorAnalysis, names: list[str]) -> Table | None:
    if not found.overlap.pairs:
        return None
    heads = [
        "methods", "only first correct", "only second correct", "both wrong",
        "both wrong by chance", "same wrong label", "consistency", "most frequent disagreement",
    ]  # fmt: skip
    rows = []
    for p in found.overlap.pairs:
        if p.first not in names or p.second not in names:
            continue
        shares = (
            p.first_only, p.second_only, p.both_wrong, p.both_wrong_by_chance, p.same_wrong_label
        )  # fmt: skip
        most = p.disagreements[0] if p.disagreements else None
        title = f"{p.first} and {p.second}" if p.first != p.second else f"two seeds of {p.first}"
        rows.append(
            [
                Cell(title),
                *(Cell(fmt.percent(100 * share), share) for share in shares),
                Cell(fmt.score(p.consistency, 2), p.consistency),
                Cell(
                    f"“{fmt.shorten(most.first, 30)}” or “{fmt.shorten(most.second, 30)}”, "
                    f"{most.rows:.0f} rows"
                    if most
                    else fmt.MISSING
                ),
            ]
        )
    return Table(heads, rows, words=(len(heads) - 1,))


def _calibration(found: ErrorAnalysis, names: list[str]) -> Table | None:
    rows = []
    for name in names:
        own = found.confidence.get(name)
        if own is None:
            continue
        scaled = own.scaling
        rows.append(
            [
                Cell(name),
                Cell(fmt.score(own.log_loss), own.log_loss),
                Cell(fmt.score(own.ece), own.ece),
                Cell(f"{scaled.temperature:.2f}" if scaled else fmt.MISSING),
                Cell(fmt.score(scaled.log_loss if scaled else None)),
                Cell(fmt.score(scaled.ece if scaled else None)),
                Cell(fmt.score(own.margins.median if own.margins else None, 2)),
            ]
        )
    heads = ["method", "log loss", "ECE", "temperature", "log loss scaled", "ECE scaled",
             "median margin of errors"]  # fmt: skip
    return Table(heads, rows) if rows else None


def _ambiguity(found: ErrorAnalysis, names: list[str]) -> Table | None:
    if found.ambiguity is None:
        return None
    levels = next(iter(found.ambiguity.values())).levels
    heads = ["method", *(_agreement(x.low, x.high) for x in levels), "rank correlation"]
    rows = []
    for name in names:
        own = found.ambiguity[name]
        cells = [
            Cell(
                fmt.percent(100 * x.rate),
                x.rate,
                f"{100 * x.rate_low:.0f} to {100 * x.rate_high:.0f}, {fmt.count(x.rows)} rows",
            )
            for x in own.levels
        ]
        rows.append([Cell(name), *cells, Cell(fmt.score(own.correlation, 2), own.correlation)])
    return Table(heads, rows)


def _agreement(low: float, high: float) -> str:
    if low == high == 1:
        return "all agree"
    return f"{100 * low:.0f} % agree" if low == high else f"{100 * low:.0f} to {100 * high:.0f} %"


def _card(row: ListedRow, labels: list[str], names: list[str]) -> RowCard:
    places = {name: place for place, name in enumerate(names)}
    by_label: dict[str, list[str]] = {}
    for a in sorted(row.predictions, key=lambda a: places.get(a.method, len(places))):
        probability = f" {a.probability:.2f}" if a.probability is not None else ""
        by_label.setdefault(a.label, []).append(f"{a.method}{probability}")
    return RowCard(
        id=fmt.one_line(str(row.id)),
        label=row.label,
        text=row.text,
        pair=row.pair,
        reasons=[KINDS[kind] for kind in row.kinds],
        kinds="|".join(row.kinds),
        label_place=labels.index(row.label),
        wrong=" ".join(str(places[a.method]) for a in row.predictions if not a.right),
        answers=[(label, label == row.label, ", ".join(who)) for label, who in by_label.items()],
    )
