"""Incomplete tokenizers, and those of other models, are rejected before data is read."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer, DebertaV2Tokenizer

from tuneoff.engine.data.tokenizer import load_tokenizer
from tuneoff.engine.model.source import find_model
from tuneoff.exceptions import BadInput, MissingExtra

TinyModel = Callable[[str], Path]


@pytest.fixture
def copied(tiny_model: TinyModel, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_model("bert"), tmp_path / "my-bert")


def test_complete(copied: Path) -> None:
    assert load_tokenizer(copied).tokenize("the cat") == ["the", "cat"]


def test_no_tokenizer_files(copied: Path) -> None:
    for file in copied.glob("*token*"):
        file.unlink()
    with pytest.raises(BadInput, match=r"has no tokenizer\.json and no vocab\.txt") as refused:
        load_tokenizer(copied)
    assert f'save_pretrained("{copied}")' in str(refused.value)


def test_vocabulary_of_special_tokens_only(copied: Path) -> None:
    content = json.loads((copied / "tokenizer.json").read_text())
    kept = {t: i for t, i in content["model"]["vocab"].items() if i < 4}
    content["model"]["vocab"] = kept
    (copied / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match="has no vocabulary"):
        load_tokenizer(copied)


def test_vocabulary_without_merges(tmp_path: Path) -> None:
    words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b", "ab"]
    (tmp_path / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (tmp_path / "config.json").write_text('{"model_type": "roberta", "vocab_size": 8}')
    with pytest.raises(BadInput, match="tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    assert load_tokenizer(tmp_path).tokenize("ab") == ["ab"]


def test_more_tokens_than_embeddings(copied: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(copied)
    before = len(tokenizer)
    tokenizer.add_tokens(["<user>", "<url>"])
    tokenizer.save_pretrained(copied)
    message = f"has {before + 2} token ids, but the model has embeddings for {before}"
    with pytest.raises(BadInput, match=f"{message}: no embedding for '<user>', '<url>'") as refused:
        load_tokenizer(copied)
    assert "resize_token_embeddings(len(tokenizer))" in str(refused.value)


def test_more_embeddings_than_tokens_is_allowed(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "vocab_size": 4096}))
    assert len(load_tokenizer(copied)) < 4096


@pytest.fixture
def sentencepiece_folder(tmp_path: Path) -> Path:
    """Folder like DeBERTa-v3's on the hub: `spm.model` without tokenizer.json."""
    import sentencepiece

    folder = tmp_path / "deberta"
    folder.mkdir()
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat\nthe dog ran in the rain\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "spm"),
        vocab_size=20,
        minloglevel=2,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        pad_piece="[PAD]",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        unk_piece="[UNK]",
        user_defined_symbols=["[MASK]"],
    )
    (folder / "config.json").write_text('{"model_type": "deberta-v2", "vocab_size": 128}')
    return folder


def test_sentencepiece_model_only(sentencepiece_folder: Path) -> None:
    tokenizer = load_tokenizer(sentencepiece_folder)
    assert isinstance(tokenizer, DebertaV2Tokenizer)
    assert "".join(tokenizer.tokenize("the cat")) == "▁the▁cat"


@pytest.mark.parametrize("package", ["sentencepiece", "protobuf"])
def test_sentencepiece_model_that_cannot_be_read(
    sentencepiece_folder: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    module = {"protobuf": "google.protobuf"}.get(package, package)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=f"needs the package {package!r}") as refused:
        load_tokenizer(sentencepiece_folder)
    hint = str(refused.value)
    assert "pip install 'tuneoff[sentencepiece]'" in hint
    # If the packages are installed, the two lines of the hint write the missing file.
    monkeypatch.undo()
    lines = re.findall(r"^    ((?:from|Auto).*)$", hint, re.MULTILINE)
    assert len(lines) == 2
    exec("\n".join(lines))
    assert (sentencepiece_folder / "tokenizer.json").is_file()


def test_hint_for_pickles_names_the_tokenizer(copied: Path) -> None:
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(BadInput, match="AutoTokenizer"):
        find_model(str(copied))
