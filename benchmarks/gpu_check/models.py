"""Models with random weights, their tokenizers, and random texts, without downloads.

Each is created once per check, by the first block that needs it.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

TOPICS = {
    "animals": ["cat", "dog", "bird", "horse"],
    "food": ["bread", "milk", "soup", "cheese"],
    "weather": ["rain", "snow", "wind", "storm"],
}
"""The label of a toy text is the topic of its words."""

FILLERS = ["the", "a", "on", "under", "in", "it", "was", "red", "fast", "slow", "here", "there"]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

TINY = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 128,
}
MIDDLE = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "max_position_embeddings": 512,
}
BASE_VOCABULARY = 30_522

# Median number of tokens, and standard deviation of its logarithm, as in the real texts.
DRAWN_LENGTHS = {"imdb": ((226, 0.62),), "snli": ((14, 0.42), (8, 0.4))}


def tiny_model(work: Path) -> Path:
    """Return a BERT with 3 layers of width 64 and the words of the toy data."""
    return _once(work / "tiny-bert", lambda folder: _bert(folder, toy_words(), TINY, wide=True))


def middle_model(work: Path) -> Path:
    """Return a BERT with 4 layers of width 256 for 512 tokens and the words of the toy data."""
    return _once(work / "middle-bert", lambda folder: _bert(folder, toy_words(), MIDDLE))


def base_model(work: Path, *, small: bool) -> Path:
    """Return a model of BERT-base's shape; `small`: 2 layers of width 64, for a dry run."""
    sizes: dict[str, Any] = {}
    if small:
        sizes = {**TINY, "num_hidden_layers": 2, "max_position_embeddings": 512}
    words = base_words()
    return _once(work / "base-bert", lambda folder: _bert(folder, words, sizes))


def toy_words() -> list[str]:
    return [*(word for words in TOPICS.values() for word in words), *FILLERS]


def base_words() -> list[str]:
    """Return as many generated words as BERT's vocabulary has without its special tokens."""
    letters = "abcdefghijklmnopqrst"
    count = BASE_VOCABULARY - len(SPECIALS)
    return ["".join(letters[i // 20**p % 20] for p in range(4)) for i in range(count)]


def toy_file(
    work: Path, name: str, rows: int, *, seed: int = 0, words: tuple[int, int] = (3, 14)
) -> Path:
    """Return a CSV file with `text` and `label` that a tiny encoder can learn."""

    def make(folder: Path) -> None:
        draw = random.Random(seed)
        texts, labels = [], []
        for i in range(rows):
            label = list(TOPICS)[i % len(TOPICS)]
            count = draw.randint(*words)
            of_topic = draw.choices(TOPICS[label], k=max(2, count // 2))
            text = of_topic + draw.choices(FILLERS, k=count // 2)
            draw.shuffle(text)
            texts.append(" ".join(text))
            labels.append(label)
        pd.DataFrame({"text": texts, "label": labels}).to_csv(folder / "rows.csv", index=False)

    return _once(work / f"toy-{name}", make) / "rows.csv"


def drawn_rows(work: Path, texts: str, *, small: bool) -> Path:
    """Return a folder with `train.csv`, `validation.csv` and `test.csv` of random words.

    The lengths are those of "imdb" or "snli", and the frequencies of the words resemble real ones.
    """

    def make(folder: Path) -> None:
        draw = np.random.default_rng(0)
        words = np.array(base_words())
        shares = 1 / np.arange(10, len(words) + 10)
        shares /= shares.sum()
        labels = ["no", "yes", "maybe"] if texts == "snli" else ["no", "yes"]
        full = {"imdb": 3840, "snli": 7680}[texts]
        for split, rows in {"train": 128 if small else full, "validation": 32, "test": 32}.items():
            columns: dict[str, list[str]] = {}
            names = ("text", "text_pair")
            for name, (median, spread) in zip(names, DRAWN_LENGTHS[texts], strict=False):
                sizes = np.maximum(1, draw.lognormal(np.log(median), spread, rows)).astype(int)
                drawn = iter(draw.choice(words, int(sizes.sum()), p=shares).tolist())
                columns[name] = [" ".join(next(drawn) for _ in range(size)) for size in sizes]
            columns["label"] = [labels[i % len(labels)] for i in range(rows)]
            pd.DataFrame(columns).to_csv(folder / f"{split}.csv", index=False)

    return _once(work / f"rows-{texts}", make)


def _once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Create `folder` by `make`, unless another block has created it already."""
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            temporary = Path(tempfile.mkdtemp(dir=folder.parent))
            try:
                make(temporary)
                os.replace(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _bert(folder: Path, words: list[str], sizes: dict[str, Any], *, wide: bool = False) -> None:
    """Write a BERT with random weights and a WordPiece tokenizer for `words`.

    `wide`: use weights so large that every word and its neighbours affect the logits, so that a
    tiny encoder learns from 60 rows.
    """
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate([*SPECIALS, *words])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    config = BertConfig(vocab_size=len(vocabulary), pad_token_id=0, **sizes)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=config.max_position_embeddings,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    if wide:
        config.initializer_range = 0.25  # for the head, which is initialised on loading
    torch.manual_seed(7)
    model = BertModel(config)
    if wide:
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.normal_(0, 1.0 if name.endswith("embeddings.weight") else 0.08)
                if "norm" in name.lower() and name.endswith("weight"):
                    weight.add_(1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
