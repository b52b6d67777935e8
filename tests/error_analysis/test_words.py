from __future__ import annotations

from typing import Any

import numpy as np

from tuneoff.error_analysis.certainty import SURE, more_than_chance
from tuneoff.error_analysis.words import words, words_of


def test_planted_word_is_first(toy: Any) -> None:
    rows = toy.rows()
    plain = toy.predictions(rows)
    planted = toy.worsened(plain, toy.containing(rows, toy.guilty), 0.5)
    found = words(toy.evidence(rows, full=[plain], lora=[planted]))
    assert found
    first = found.methods["lora"].suspect[0]
    assert (first.word, first.significant) == (toy.guilty, True)
    assert found.methods["lora"].significant == 1
    assert found.methods["full"].significant == 0
    assert [w.word for w in found.across] == [toy.guilty]
    assert found.across[0].significant == ["lora"]


def test_numbers_of_a_planted_word(toy: Any) -> None:
    rows = toy.rows()
    table = toy.worsened(toy.predictions(rows), toy.containing(rows, toy.guilty), 0.5)
    found = words(toy.evidence(rows, full=[table]))
    assert found
    first = found.methods["full"].suspect[0]
    test = table[table["split"] == "test"]
    wrong = test["row"][test["label"] != test["prediction"]]
    containing = toy.containing(rows, toy.guilty)
    assert first.rows == len(containing)
    assert first.errors == len(set(containing) & set(wrong))
    assert first.rate == first.errors / first.rows
    assert first.low < first.rate < first.high
    assert found.methods["full"].rate == len(wrong) / len(test)


def test_frequent_words_are_not_suspect(toy: Any) -> None:
    rows = toy.rows()
    found = words(toy.evidence(rows, full=[toy.predictions(rows)]))
    assert found
    own = found.methods["full"]
    assert own.frequent[0].word == "w0"
    assert abs(own.frequent[0].share_of_errors - own.frequent[0].share_of_rows) < 0.05
    assert own.significant == 0


def test_shuffled_errors_are_rarely_significant(toy: Any) -> None:
    """At most 2 of 20 studies have a sure word; without correction, all of them would."""
    rows = toy.rows()
    alarms = uncorrected = 0
    for seed in range(20):
        evidence = toy.evidence(
            rows,
            full=[toy.predictions(rows, 0.75, seed)],
            lora=[toy.predictions(rows, 0.8, 100 + seed)],
        )
        found = words(evidence)
        assert found
        alarms += any(m.significant for m in found.methods.values())
        texts = [words_of(text) for text in evidence.joined]
        for name, wrong in evidence.wrong.items():
            p = [
                float(more_than_chance(int((wrong & held).sum()), int(held.sum()),
                                       int(wrong.sum()), len(wrong)))
                for word in (s.word for s in found.methods[name].suspect)
                for held in [np.array([word in own for own in texts])]
            ]  # fmt: skip
            uncorrected += min(p) <= SURE
    assert uncorrected == 40
    assert alarms <= 2


def test_texts_of_a_pair_are_analysed_separately(toy: Any) -> None:
    rows = toy.rows(pair=True)
    guilty = "w77"
    table = toy.worsened(toy.predictions(rows), toy.containing(rows, guilty, "text_pair"), 0.9)
    found = words(toy.evidence(rows, full=[table]))
    assert found
    first = found.methods["full"].suspect[0]
    assert (first.word, first.side, first.significant) == (guilty, "second", True)


def test_words_are_case_folded_and_counted_once_per_row() -> None:
    assert words_of("Don't STOP, don’t stop! Straße 42") == {
        "don't",
        "stop",
        "don’t",
        "strasse",
        "42",
    }
    assert words_of("") == set()


def test_no_words_without_texts(toy: Any) -> None:
    rows = toy.rows(test=50)
    assert words(toy.evidence(None, full=[toy.predictions(rows)])) is None


def test_no_words_without_a_frequent_word(toy: Any) -> None:
    rows = toy.rows(test=50)
    rows["text"] = [f"only{i}" for i in range(len(rows))]
    assert words(toy.evidence(rows, full=[toy.predictions(rows)])) is None
