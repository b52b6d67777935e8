"""Labels and probabilities for new texts, from an exported model.

The folder is read as other programs read it: its tokenizer pads and truncates, and Transformers,
ONNX Runtime or OpenVINO computes the logits. Nothing of tuneoff's own engine takes part, so that a
comparison with the run's model shows what users of the export get.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tuneoff.engine.data.tokenizer import load_tokenizer
from tuneoff.engine.inference.texts import as_pairs, prediction_table, token_statistics
from tuneoff.engine.kernels.packed_forward import unwrapped
from tuneoff.engine.model.saved import open_saved
from tuneoff.engine.model.untrusted_files import check_saved
from tuneoff.exceptions import BadInput, Issue, MissingExtra
from tuneoff.methods import method
from tuneoff.results.exports import Manifest
from tuneoff.results.record import Quantiles, RunRecord
from tuneoff.results.store import RunFolder

Inputs = Mapping[str, npt.NDArray[np.int64]]
Logits = npt.NDArray[np.float32]
Run = Callable[[Inputs], Logits]
Progress = Callable[[int, int], None]

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Inputs that a model may take, as tokenizers call them."""

BATCH_TOKENS = 2048
"""Maximum number of tokens of a batch, with padding."""


@dataclass(frozen=True)
class Runtime:
    """A loaded model: the names of its inputs, and a function that computes logits."""

    inputs: list[str]
    run: Run


class TextClassifier:
    """A tokenizer and a model: texts in, labels and probabilities out.

    Args:
        runtime: The model.
        tokenizer: Its tokenizer.
        labels: The labels in the order of the logits.
        max_length: Number of tokens to which texts are truncated.
        pads: Whether texts of different lengths may share a batch.
    """

    def __init__(
        self,
        runtime: Runtime,
        tokenizer: Any,
        labels: list[str],
        *,
        max_length: int,
        pads: bool = True,
    ) -> None:
        self.labels, self.max_length = labels, max_length
        self._model, self._tokenizer, self._pads = runtime, tokenizer, pads

    def predict(
        self,
        texts: str | Iterable[str],
        pairs: str | Iterable[str] | None = None,
        progress: Progress = lambda done, rows: None,
    ) -> pd.DataFrame:
        """Return columns `prediction` and `probability_<label>` for each label, a row per text.

        Args:
            texts: One text or several.
            pairs: The second texts of a model that was trained on pairs; as many as `texts`.
            progress: Called with the number of rows done and of all rows.

        Raises:
            BadInput: A text is missing or not a string, or texts and pairs differ in number.
        """
        logits = self.logits(*as_pairs(texts, pairs), progress=progress).astype(np.float64)
        weights = np.exp(logits - logits.max(1, keepdims=True)) if len(logits) else logits
        probabilities = weights / weights.sum(1, keepdims=True) if len(logits) else weights
        return prediction_table(probabilities.astype(np.float32), self.labels)

    def logits(
        self,
        texts: list[str],
        pairs: list[str] | None = None,
        *,
        batch_size: int | None = None,
        progress: Progress = lambda done, rows: None,
    ) -> Logits:
        """Return the logits of texts.

        Args:
            texts: The texts.
            pairs: Their second texts.
            batch_size: Number of texts in a batch, in the given order; by default batches hold
                texts of similar length, up to `BATCH_TOKENS`.
            progress: Called with the number of rows done and of all rows.

        Returns:
            (texts, labels) float32, in the order of `labels`.
        """
        found = np.empty((len(texts), len(self.labels)), np.float32)
        done = 0
        for rows in self._batches(texts, pairs, batch_size):
            inputs = self.tokenize(
                [texts[row] for row in rows],
                None if pairs is None else [pairs[row] for row in rows],
            )
            found[rows] = self._model.run(inputs)
            done += len(rows)
            progress(done, len(texts))
        return found

    def token_statistics(
        self, texts: list[str], pairs: list[str] | None
    ) -> tuple[Quantiles, int, float] | None:
        """Return statistics of tokens as `texts.token_statistics`; None without texts."""
        if not texts:
            return None
        return token_statistics(self._tokenizer, texts, pairs, self.max_length)

    def padded(self) -> TextClassifier:
        """Return the same model with texts of different lengths in a batch, whatever it needs."""
        return TextClassifier(
            self._model, self._tokenizer, self.labels, max_length=self.max_length, pads=True
        )

    def tokenize(self, texts: list[str], pairs: list[str] | None = None) -> Inputs:
        """Return the inputs of the model for one batch: (texts, tokens) int64 each."""
        given = self._tokenizer(
            texts,
            pairs,
            truncation=True,
            max_length=self.max_length,
            padding=True,
            return_tensors="np",
        )
        shape = given["input_ids"].shape
        return {
            name: np.asarray(given[name] if name in given else np.zeros(shape), np.int64)
            for name in self._model.inputs
        }

    def lengths(self, texts: list[str], pairs: list[str] | None = None) -> npt.NDArray[np.int64]:
        """Return the number of tokens of each text, after truncation."""
        given = self._tokenizer(texts, pairs, truncation=True, max_length=self.max_length)
        return np.array([len(ids) for ids in given["input_ids"]], np.int64)

    def _batches(
        self, texts: list[str], pairs: list[str] | None, batch_size: int | None
    ) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the positions of the texts of each batch."""
        if not texts:
            return
        lengths = self.lengths(texts, pairs)
        order = np.arange(len(texts)) if batch_size else np.argsort(lengths, kind="stable")
        batch: list[int] = []
        longest = 0
        for row in order.tolist():
            length = int(lengths[row])
            longest = max(longest, length)
            full = (
                len(batch) >= batch_size
                if batch_size
                else (len(batch) + 1) * longest > BATCH_TOKENS
            )
            if batch and (full or (not self._pads and length != lengths[batch[0]])):
                yield np.array(batch, np.int64)
                batch, longest = [], length
            batch.append(row)
        yield np.array(batch, np.int64)


class ExportedModel(TextClassifier):
    """The model of an export.

    Args:
        path: Folder of the export.
        threads: Threads of the computation; by default one for each usable core.

    Raises:
        BadInput: The folder is not an export, or its files are unsafe or incomplete.
        MissingExtra: The package that runs the format is not installed.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        self.path = Path(path)
        self.manifest = Manifest.read(self.path)
        check_saved(self.path)
        config = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        names = {int(place): name for place, name in config["id2label"].items()}
        runtime = self.manifest.runtime
        if runtime not in RUNTIMES:
            raise BadInput(Issue(f"has the unknown runtime {runtime!r}", file=str(path)))
        super().__init__(
            RUNTIMES[runtime](self.path, threads or usable_cores()),
            load_tokenizer(self.path),
            [names[place] for place in sorted(names)],
            max_length=self.manifest.max_length,
            pads=self.manifest.padding != "none",
        )


def original(folder: RunFolder, record: RunRecord) -> TextClassifier:
    """Return the saved model of a run as Transformers or PEFT alone runs it, in float32.

    An adapter is not merged, a 4-bit base stays in 4 bits, and only texts of equal length share a
    batch, so that no text is padded. It is the reference for an export.

    Args:
        folder: Folder of a finished run with an encoder.
        record: Its record.
    """
    saved = folder.model
    model = open_saved(saved, quantized=method(record.method.method).quantized)
    return TextClassifier(
        _runtime(model, unwrapped(model)),
        load_tokenizer(saved),
        list(record.data.labels),
        max_length=int(record.train["max_length"]),
        pads=False,
    )


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    import os

    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # on macOS and Windows
        return os.cpu_count() or 1


def _transformers(path: Path, threads: int) -> Runtime:
    import torch
    from transformers import AutoModelForSequenceClassification

    torch.set_num_threads(threads)
    model = AutoModelForSequenceClassification.from_pretrained(
        path, dtype="auto", use_safetensors=True, trust_remote_code=False, local_files_only=True
    )
    return _runtime(model.eval(), model)


def _runtime(model: Any, inner: Any) -> Runtime:
    """Return the runtime of a PyTorch model; `inner` is the model without PEFT's wrapper."""
    from inspect import signature

    import torch

    taken = signature(inner.forward).parameters

    def run(inputs: Inputs) -> Logits:
        with torch.inference_mode():
            given = {name: torch.from_numpy(value) for name, value in inputs.items()}
            found: Logits = model(**given).logits.float().numpy()
        return found

    return Runtime([name for name in INPUTS if name in taken], run)


def _onnx(path: Path, threads: int) -> Runtime:
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("onnxruntime", "export", "Reading an ONNX export") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(path / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]

    def run(inputs: Inputs) -> Logits:
        found: Logits = session.run(["logits"], dict(inputs))[0]
        return found

    return Runtime(names, run)


def _openvino(path: Path, threads: int) -> Runtime:
    try:
        import openvino
    except ImportError:
        raise MissingExtra("openvino", "export", "Reading an OpenVINO export") from None
    compiled = openvino.Core().compile_model(
        str(path / "openvino_model.xml"),
        "CPU",
        # Otherwise OpenVINO computes in bf16 on processors that have it.
        {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"},
    )
    names = [value.get_any_name() for value in compiled.inputs]

    def run(inputs: Inputs) -> Logits:
        found: Logits = compiled(dict(inputs))[compiled.output(0)]
        return np.array(found)

    return Runtime(names, run)


RUNTIMES: dict[str, Callable[[Path, int], Runtime]] = {
    "transformers": _transformers,
    "onnx": _onnx,
    "openvino": _openvino,
}
"""Loads the model in a folder with this number of threads, by the runtime in the manifest."""
