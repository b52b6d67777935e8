"""Prediction of labels and probabilities for new texts, with the saved model of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tuneoff.engine.data.task import Split
from tuneoff.engine.data.tokenizer import load_tokenizer
from tuneoff.engine.data.tokens import TokenStore
from tuneoff.engine.inference.texts import as_pairs, prediction_table, token_statistics
from tuneoff.engine.model.precision import DTYPES, choose_device, choose_precision, has_bf16
from tuneoff.engine.model.saved import load_trained
from tuneoff.engine.model.untrusted_files import check_saved
from tuneoff.engine.training import classical
from tuneoff.engine.training.predict import predict
from tuneoff.exceptions import BadInput, Issue
from tuneoff.methods import method
from tuneoff.results.record import Quantiles, Status
from tuneoff.results.store import RunFolder

Progress = Callable[[int, int], None]


class Predictor:
    """Predicts labels and probabilities of texts with the model of a finished run.

    Args:
        folder: Folder of the run.
        device: Device to predict on; "auto" chooses it.

    Raises:
        BadInput: The run has no saved model, or the device is not available.
    """

    def __init__(self, folder: RunFolder, *, device: str = "auto") -> None:
        record = folder.record()
        if record is None or record.status != Status.FINISHED:
            status = "not run yet" if record is None else record.status.value
            raise BadInput(
                Issue(f"the run has no model to predict with ({status})", file=str(folder.path))
            )
        self.labels = record.data.labels
        self._classical = (
            classical.load(folder.model) if classical.is_saved_in(folder.model) else None
        )
        if self._classical is not None:
            return
        check_saved(folder.model)
        self._device = choose_device(device)
        trained_in = record.train["precision"] or "auto"
        usable = self._device.type == record.train["device"]
        if trained_in == "bf16" and not has_bf16(self._device):  # trained on a newer GPU
            usable = False
        precision = choose_precision(trained_in if usable else "auto", self._device)
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
        """Predict the label of each text.

        Args:
            texts: Texts, or a single one.
            pairs: The second texts, one for each text, if the run was trained on pairs.
            progress: Called with the number of finished rows and of all rows.

        Returns:
            A row per text, with the column `prediction` and a column `probability_<label>` for each
            label.

        Raises:
            BadInput: A text is missing or not a string, or the numbers of texts and of second texts
                differ.
        """
        found = self._probabilities(*as_pairs(texts, pairs), progress)
        return prediction_table(found, self.labels)

    def token_statistics(
        self, texts: list[str], pairs: list[str] | None
    ) -> tuple[Quantiles, int, float] | None:
        """Compute statistics of the tokens of texts.

        Returns:
            Quantiles of the lengths in tokens (before truncation, with special tokens), the number
            of truncated texts, and the proportion of unknown tokens (special tokens excluded). None
            for a run without a tokenizer, or without texts.
        """
        if self._classical is not None or not texts:
            return None
        return token_statistics(self._tokenizer, texts, pairs, self._max_length)

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
