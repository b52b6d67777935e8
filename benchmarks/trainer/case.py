"""Inputs of both sides: the same rows, model, method and settings."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

RANK, ALPHA = 8, 16
LEARNING_RATES = {
    "full": 2e-4,
    "weighted": 2e-4,
    "partial": 4e-4,
    "head": 4e-3,
    "bitfit": 4e-3,
    "ia3": 1e-2,
    "lora": 2e-3,
    "qlora": 2e-3,
}
"""Rates for a hidden size of 384. They are not adapted to other models, as speed is unaffected."""


@dataclass(frozen=True)
class Case:
    """One comparison; `texts` is "imdb", "snli" or "banking77", `shape` names the encoder."""

    texts: str
    method: str
    shape: str = "minilm"
    batch_size: int = 16
    train_rows: int = 256
    epochs: int = 1
    test_rows: int = 0
    seed: int = 0
    precision: str = "bf16"
    rate: float | None = None
    """Learning rate; None: the method's rate in `LEARNING_RATES`."""

    @property
    def name(self) -> str:
        return f"{self.texts} {self.shape} {self.method} batch {self.batch_size} {self.precision}"

    @property
    def learning_rate(self) -> float:
        return self.rate or LEARNING_RATES[self.method]

    def write(self, path: Path, **more: Any) -> None:
        path.write_text(json.dumps(asdict(self) | more), encoding="utf-8")


def read_case(path: Path) -> tuple[Case, dict[str, Any]]:
    """Read a case, and the other content of its file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    own = {key: content.pop(key) for key in Case.__dataclass_fields__}
    return Case(**own), content


def write_rows(case: Case, folder: Path, data: Path | None) -> None:
    """Write `train.csv`, `validation.csv`, `test.csv` with text, text_pair (SNLI) and label.

    The rows are real ones from `data` (a folder with `imdb/`, `snli/`, `banking77/`). Without it,
    they are random words in texts of the same lengths: speed is the same, scores are meaningless.
    """
    # The validation rows only select the best epoch, so few are sufficient without scores.
    scored = max(case.test_rows // 2, 32)
    wanted = {"train": case.train_rows, "validation": scored, "test": max(case.test_rows, 32)}
    for i, (split, rows) in enumerate(wanted.items()):
        frame = _real(case, split, rows, data) if data else _random_rows(case.texts, rows, i)
        frame.to_csv(folder / f"{split}.csv", index=False)


def _real(case: Case, split: str, rows: int, data: Path) -> pd.DataFrame:
    source = "test" if split == "test" else "train"
    frame = pd.read_csv(data / case.texts / f"{source}.csv", keep_default_na=False)
    frame = frame.sample(frac=1, random_state=0)  # the same rows for all seeds of a case
    start = case.train_rows if split == "validation" else 0
    frame = frame.iloc[start : start + rows]
    if case.texts == "snli":
        frame = frame.rename(columns={"premise": "text", "hypothesis": "text_pair"})
        return frame[["text", "text_pair", "label"]]
    return frame.rename(columns={"category": "label"})[["text", "label"]]


# Median number of words, and standard deviation of its logarithm, as in the real texts.
_LENGTHS = {
    "imdb": ((174, 0.62),),
    "snli": ((13, 0.42), (7, 0.4)),
    "banking77": ((10, 0.55),),
}


def _random_rows(texts: str, rows: int, seed: int) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    words = np.array(["the", "film", "was", "good", "bad", "a", "man", "with", "story", "of"])

    def text(median: float, spread: float) -> str:
        return " ".join(draw.choice(words, max(1, int(draw.lognormal(np.log(median), spread)))))

    names = ("text", "text_pair")
    columns = {
        name: [text(*shape) for _ in range(rows)]
        for name, shape in zip(names, _LENGTHS[texts], strict=False)
    }
    labels = ["no", "yes", "maybe"] if texts == "snli" else ["no", "yes"]
    return pd.DataFrame(columns | {"label": [labels[i % len(labels)] for i in range(rows)]})


SHAPES: dict[str, dict[str, Any]] = {
    "distilbert": {"model_type": "distilbert"},
    "bert-base": {"model_type": "bert"},
}


def model_folder(shape: str, folder: Path) -> Path:
    """Return the folder of MiniLM, or of a random model of another shape with its tokenizer."""
    from tuneoff.engine.model.embedded import EMBEDDED_ID
    from tuneoff.engine.model.source import find_model

    embedded = find_model(EMBEDDED_ID).path
    if shape == "minilm":
        return embedded
    made = folder / shape
    if not made.is_dir():
        import torch
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(embedded)
        config = AutoConfig.for_model(**SHAPES[shape], vocab_size=len(tokenizer))
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(made)
        tokenizer.save_pretrained(made)
    return made
