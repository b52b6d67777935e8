"""Labels and probabilities for new texts, from a run's saved model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tuneoff.engine.data.explore import quantiles
from tuneoff.engine.data.task import Split
from tuneoff.engine.data.tokenizer import load_tokenizer
from tuneoff.engine.data.tokens import TokenStore
from tuneoff.engine.inference.texts import as_texts
from tuneoff.engine.model.load import load_trained
from tuneoff.engine.model.precision import DTYPES, choose_device, choose_precision, has_bf16
from tuneoff.engine.model.untrusted_files import check_saved
from tuneoff.engine.training import classical
from tuneoff.engine.training.predict import predict
from tuneoff.exceptions import BadInput, Issue
from tuneoff.methods import method
from tuneoff.results.record import Quantiles, Status
from tuneoff.results.store import RunFolder

Progress = Callable[[int, int], None]


class Predictor:
    """A finished run, loaded: texts in, labels and probabilities out."""

    def __init__(self, folder: RunFolder, *, device: str = "auto") -> None:
        """Load the run's model; `BadInput` if the run has none."""
        record = folder.record()
        if record is None or record.status != Status.FINISHED:
            how = "not run yet" if record is None else record.status.value
            raise BadInput(Issue(f"has no model to predict with ({how})", file=str(folder.path)))
        self.labels = record.data.labels
        self._classical = (
            classical.load(folder.model) if classical.is_saved_in(folder.model) else None
        )
        if self._classical is not None:
            return
        check_saved(folder.model)
        self._device = choose_device(device)
        asked = record.train["precision"] or "auto"
        known = self._device.type == record.train["device"]
        if asked == "bf16" and not has_bf16(self._device):  # trained on a newer GPU
            known = False
        precision = choose_precision(asked if known else "auto", self._device)
        self._max_length = int(record.train["max_length"])
        self._tokenizer = load_tokenizer(folder.model)
        self._classifier = load_trained(
            folder.model,
            quantized=method(record.method.method).quantized,
            dtype=DTYPES[precision],
            device=self._device,
        )

    def predict(
        self,
        texts: str | Iterable[str],
        pairs: str | Iterable[str] | None = None,
        progress: Progress = lambda done, rows: None,
    ) -> pd.DataFrame:
        """Return columns `prediction` and `probability_<label>` for each label, a row per text.

        Args:
            texts: Texts, or a single one.
            pairs: The second texts of a run that was trained on pairs, as many.
            progress: Called with the rows done and all rows.

        Raises:
            BadInput: A text is missing or not a string, or texts and pairs differ in number.
        """
        given = as_texts(texts)
        seconds = None if pairs is None else as_texts(pairs, "second text")
        if seconds is not None and len(seconds) != len(given):
            raise BadInput(f"{len(given)} texts and {len(seconds)} second texts do not pair up.")
        probabilities = self._probabilities(given, seconds, progress)
        labels = np.array(self.labels, dtype=object)
        columns: dict[str, Any] = {"prediction": labels[probabilities.argmax(1)]}
        columns |= {f"probability_{x}": probabilities[:, i] for i, x in enumerate(self.labels)}
        return pd.DataFrame(columns)

    def token_statistics(
        self, texts: list[str], pairs: list[str] | None
    ) -> tuple[Quantiles, int, float] | None:
        """Return the lengths of texts, the number truncated, and the share of unknown tokens.

        Lengths are in tokens before truncation, including special tokens. None for a run without a
        tokenizer.
        """
        if self._classical is not None or not texts:
            return None
        with tempfile.TemporaryDirectory(prefix="tuneoff-") as folder:
            store = TokenStore.build(
                Path(folder) / "tokens", self._tokenizer, texts, pairs, self._max_length
            )
            lengths = store.full_lengths
            special = set(self._tokenizer.all_special_ids) - {self._tokenizer.unk_token_id}
            words = ~np.isin(store.ids, list(special))
            unknown = np.asarray(store.ids)[words] == self._tokenizer.unk_token_id
        share = float(unknown.mean()) if len(unknown) else 0.0
        return quantiles(lengths), int((lengths > self._max_length).sum()), share

    def _probabilities(
        self, texts: list[str], pairs: list[str] | None, progress: Progress
    ) -> npt.NDArray[np.float32]:
        if not texts:
            return np.empty((0, len(self.labels)), np.float32)
        if self._classical is not None:
            return self._classical[0].predict(classical.joined_texts(texts, pairs))
        with tempfile.TemporaryDirectory(prefix="tuneoff-") as folder:
            store = TokenStore.build(
                Path(folder) / "tokens", self._tokenizer, texts, pairs, self._max_length
            )
            count = len(texts)
            split = Split(
                name="new",
                tokens=store,
                labels=np.zeros(count, np.int64),
                weights=np.ones(count, np.float32),
                rows=np.arange(count),
                path=Path(folder),
            )
            with torch.inference_mode():
                return predict(self._classifier, split, self._device, progress)
