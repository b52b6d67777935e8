"""A token store has the same tokens as calls of the tokenizer, with the same truncation."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuneoff.engine.data import TokenStore
from tuneoff.engine.data import tokens as tokens_module
from tuneoff.engine.data.tokenizer import load_tokenizer

TEXTS = [
    "the cat sat",
    "",
    "the dog ran under a mat, a tree and the red birds singing in fast rain",
    "unknownword the cats",
    "rain " * 50,
]
PAIRS = ["a bird sang", "the dog", "", "slow " * 30, "in the rain " * 9]


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: Path) -> Any:
    return load_tokenizer(tokenizer_folder)


@pytest.mark.parametrize("pairs", [None, PAIRS])
@pytest.mark.parametrize("max_length", [6, 12, 512])
@pytest.mark.parametrize("chunk", [2, 4096])
def test_store_equals_tokenizer_calls(
    tmp_path: Path,
    tokenizer: Any,
    monkeypatch: pytest.MonkeyPatch,
    pairs: list[str] | None,
    max_length: int,
    chunk: int,
) -> None:
    monkeypatch.setattr(tokens_module, "CHUNK", chunk)
    store = TokenStore.build(tmp_path / "store", tokenizer, TEXTS, pairs, max_length)
    full = store.full_lengths
    assert len(store) == len(TEXTS)
    for row, text in enumerate(TEXTS):
        pair = None if pairs is None else pairs[row]
        # A list with one entry, because a call with a single pair drops an empty second text.
        one = ([text], None if pair is None else [pair])
        plain = tokenizer(*one, truncation="longest_first", max_length=max_length)
        ids, types = plain["input_ids"][0], plain["token_type_ids"][0]
        begin, end = store.offsets[row], store.offsets[row + 1]
        assert store[row].tolist() == ids == store.ids[begin:end].tolist()
        assert store.lengths[row] == len(ids) <= max_length
        assert full[row] == len(tokenizer(*one, verbose=False)["input_ids"][0])
        if pairs is None:
            assert store.type_ids is None
        else:
            assert store.type_ids is not None
            assert store.type_ids[begin:end].tolist() == types
            assert 1 in types
    assert full.max() > 50


def test_types_and_mapping(tmp_path: Path, tokenizer: Any) -> None:
    built = TokenStore.build(tmp_path / "store", tokenizer, TEXTS, PAIRS, 12)
    opened = TokenStore.open(tmp_path / "store")
    for store in (built, opened):
        assert isinstance(store.ids, np.memmap)
        assert isinstance(store.type_ids, np.memmap)
        assert store.ids.dtype == np.uint16
        assert store.type_ids.dtype == np.uint8
        assert store.offsets.dtype == np.int64
        assert store.full_lengths.dtype == np.int32
        assert store.max_length == 12
        with pytest.raises(ValueError, match="read-only"):
            store.ids[0] = 1
    assert (opened.ids == built.ids).all()
    assert opened[-1].tolist() == opened[len(TEXTS) - 1].tolist()
    with pytest.raises(IndexError):
        opened[len(TEXTS)]


def test_large_vocabulary_uses_wider_ids(tmp_path: Path) -> None:
    class Wide:
        """Tokenizer that gives each text one id above 16 bits."""

        model_input_names = ("input_ids",)
        all_special_ids = ()
        unk_token_id = None

        def __len__(self) -> int:
            return 100_000

        def __call__(self, texts: list[str], pairs: None, **options: Any) -> dict[str, Any]:
            assert options["return_token_type_ids"] is False
            return {"input_ids": [[99_999] for _ in texts]}

    store = TokenStore.build(tmp_path / "store", Wide(), ["x", "y"], None, 8)
    assert store.ids.dtype == np.int32
    assert store.ids.tolist() == [99_999, 99_999]


def test_no_rows(tmp_path: Path, tokenizer: Any) -> None:
    store = TokenStore.build(tmp_path / "store", tokenizer, [], None, 8)
    assert len(store) == len(store.ids) == 0


def test_no_warning_about_long_texts(
    tmp_path: Path, tokenizer_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import transformers

    fresh = load_tokenizer(tokenizer_folder)  # the warning is shown once per tokenizer
    assert fresh.model_max_length == 16
    logger = logging.getLogger("transformers")
    before = logger.propagate
    logger.propagate = True
    try:
        TokenStore.build(tmp_path / "store", fresh, TEXTS, None, 8)
        assert caplog.text == ""
        fresh("rain " * 50)
        assert "longer than" in caplog.text or transformers.logging.get_verbosity() > 30
    finally:
        logger.propagate = before


def test_store_is_replaced_atomically(tmp_path: Path, tokenizer: Any) -> None:
    TokenStore.build(tmp_path / "store", tokenizer, ["the cat"], None, 8)

    class Failing:
        model_input_names = ("input_ids",)

        def __len__(self) -> int:
            return 10

        def __call__(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        TokenStore.build(tmp_path / "store", Failing(), ["the dog"], None, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert TokenStore.open(tmp_path / "store")[0].tolist() == tokenizer("the cat")["input_ids"]
    TokenStore.build(tmp_path / "store", tokenizer, TEXTS, None, 8)
    assert len(TokenStore.open(tmp_path / "store")) == len(TEXTS)
    assert json.loads((tmp_path / "store" / "meta.json").read_text())["rows"] == len(TEXTS)
