"""Texts that are passed to `predict`, and the table that it returns."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tuneoff.engine.data.explore import quantiles
from tuneoff.engine.data.tokens import TokenStore
from tuneoff.exceptions import BadInput
from tuneoff.results.record import Quantiles
from tuneoff.tables.notes import row_warning


def as_texts(given: str | Iterable[str], what: str = "text") -> list[str]:
    """Return texts as a list; a single text becomes a list of one.

    Args:
        given: Texts, or a single one.
        what: Noun for a text in messages.

    Raises:
        BadInput: A text is missing or not a string, or `given` is not a sequence of texts.
    """
    if isinstance(given, str):
        return [given]
    is_other = isinstance(given, bytes | Mapping | Set | pd.DataFrame)
    if is_other or not isinstance(given, Iterable):
        raise BadInput(
            f"predict takes a {what} or a sequence of them, not an object of type"
            f" {type(given).__name__}.",
            hint="Pass a string, a list of strings or one column of a data frame.",
        )
    texts: list[Any] = list(given)
    if texts and all(isinstance(text, Mapping) for text in texts):  # such as `datasets.Dataset`
        columns = ", ".join(repr(str(column)) for column in texts[0])
        raise BadInput(
            f"predict takes {what}s, not rows with the columns {columns}.",
            hint='Pass the column with the texts, such as dataset["text"].',
        )
    if texts and all(isinstance(text, tuple | list) and len(text) == 2 for text in texts):
        raise BadInput(
            f"predict takes {what}s, not pairs of {what}s.",
            hint="Pass the second texts separately: predict(texts, pairs=seconds).",
        )
    wrong = [i for i, text in enumerate(texts) if not isinstance(text, str)]
    if wrong:
        kinds = sorted({_kind(texts[i]) for i in wrong})
        raise BadInput(
            row_warning(
                f"{what}s that are not strings but {' or '.join(kinds)}", wrong, len(texts), "row"
            ),
            hint="Rows are counted from 0. Remove these rows, or replace them by empty strings.",
        )
    return texts


def as_pairs(
    texts: str | Iterable[str], pairs: str | Iterable[str] | None
) -> tuple[list[str], list[str] | None]:
    """Return texts and second texts as lists.

    Raises:
        BadInput: A text is missing or not a string, or the numbers of texts and of second texts
            differ.
    """
    firsts = as_texts(texts)
    seconds = None if pairs is None else as_texts(pairs, "second text")
    if seconds is not None and len(seconds) != len(firsts):
        raise BadInput(
            f"the number of texts ({len(firsts)}) differs from the number of second texts"
            f" ({len(seconds)})."
        )
    return firsts, seconds


def prediction_table(probabilities: npt.NDArray[np.float32], labels: Sequence[str]) -> pd.DataFrame:
    """Return a row per text with the columns `prediction` and `probability_<label>`.

    Args:
        probabilities: (texts, labels) probabilities.
        labels: The labels.
    """
    names = np.array(labels, dtype=object)
    columns: dict[str, Any] = {"prediction": names[probabilities.argmax(1)]}
    columns |= {f"probability_{label}": probabilities[:, i] for i, label in enumerate(labels)}
    return pd.DataFrame(columns)


def token_statistics(
    tokenizer: Any, texts: list[str], pairs: list[str] | None, max_length: int
) -> tuple[Quantiles, int, float]:
    """Return statistics of the tokens of texts.

    Args:
        tokenizer: A fast tokenizer.
        texts: The texts, at least one.
        pairs: Their second texts.
        max_length: Number of tokens to which texts are truncated.

    Returns:
        Quantiles of the lengths in tokens (before truncation, with special tokens), the number of
        truncated texts, and the proportion of unknown tokens (special tokens excluded).
    """
    with tempfile.TemporaryDirectory(prefix="tuneoff-") as folder:
        store = TokenStore.build(Path(folder) / "tokens", tokenizer, texts, pairs, max_length)
        lengths = store.full_lengths
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        words = ~np.isin(store.ids, list(special))
        unknown = np.asarray(store.ids)[words] == tokenizer.unk_token_id
    proportion = float(unknown.mean()) if len(unknown) else 0.0
    return quantiles(lengths), int((lengths > max_length).sum()), proportion


def blank_note(texts: Sequence[str], pairs: Sequence[str] | None) -> str | None:
    """Return a note about rows whose texts are empty, because their labels have no meaning.

    None if there are no such rows.
    """
    seconds = [""] * len(texts) if pairs is None else pairs
    both = zip(texts, seconds, strict=True)
    blank = [i for i, (one, two) in enumerate(both) if not one.strip() and not two.strip()]
    if not blank:
        return None
    return row_warning("rows with an empty text, labelled anyway", blank, len(texts), "row")


def _kind(value: object) -> str:
    missing = value is None or value is pd.NA or value is pd.NaT or value != value
    return "missing" if missing else f"of type {type(value).__name__}"
