"""Load a model's tokenizer and check that it is complete and belongs to the model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tuneoff.exceptions import BadInput, Issue, MissingExtra

GET_IT = (
    "Download the model again with its tokenizer files, or write them to the folder:\n"
    "    from transformers import AutoTokenizer\n"
    '    AutoTokenizer.from_pretrained("NAME").save_pretrained("{path}")'
)
"""Hint for a folder without a complete tokenizer."""

CONVERT = (
    "    from transformers import AutoTokenizer\n"
    '    AutoTokenizer.from_pretrained("{path}").save_pretrained("{path}")'
)
"""Python code that writes a tokenizer.json from the other files of a tokenizer."""


def load_tokenizer(path: Path) -> Any:
    """Return the fast tokenizer in a local folder.

    Raises:
        BadInput: The folder has no fast tokenizer, the tokenizer is incomplete, or it does not
            belong to the model in the same folder.
        MissingExtra: The folder has only a SentencePiece model, and the packages that read it are
            not installed.
    """
    from transformers import AutoTokenizer

    _check_sentencepiece(path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(path), use_fast=True, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # tokenizers raises plain `Exception` for a corrupt file
        problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(
            Issue(
                f"the model's tokenizer cannot be loaded: {problem[:300]}",
                file=str(path),
                hint="The folder needs a tokenizer.json.",
            )
        ) from error
    if not tokenizer.is_fast:
        raise BadInput(
            Issue(
                "the model has only a slow tokenizer",
                file=str(path),
                hint="Choose a model with a tokenizer.json.",
            )
        )
    _check_complete(path, tokenizer)
    _check_vocabulary(path, tokenizer)
    return tokenizer


def _check_sentencepiece(path: Path) -> None:
    """Raise `MissingExtra` if there is only a SentencePiece model and no package to read it.

    Transformers would assume another format of the file and ask for another package.
    """
    if (path / "tokenizer.json").is_file() or not (models := sorted(path.glob("*.model"))):
        return
    for package, module in (("sentencepiece", "sentencepiece"), ("protobuf", "google.protobuf")):
        if not _is_installed(module):
            raise MissingExtra(
                package,
                "sentencepiece",
                f"{path}: the tokenizer is a SentencePiece model ({models[0].name}) without a"
                " tokenizer.json, and reading it",
                more="\n  Or write a tokenizer.json where both packages are installed:\n"
                + CONVERT.format(path=path),
            )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


def _check_complete(path: Path, tokenizer: Any) -> None:
    """Raise `BadInput` if a file of the tokenizer is missing.

    Without files, Transformers builds a tokenizer that has only the special tokens; without the
    merges of a byte-pair encoding, one that has only single characters.
    """
    names = dict(tokenizer.vocab_files_names)
    fast_file = names.pop("tokenizer_file", "tokenizer.json")
    parts = [] if (path / fast_file).is_file() else sorted(names.values())
    missing = [name for name in parts if not (path / name).is_file()]
    words = set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)
    if words and len(missing) in (0, len(parts)):
        return
    message = (
        f"the model's tokenizer has no vocabulary: {fast_file} contains only special tokens"
        if (path / fast_file).is_file()
        else "the model's tokenizer is missing or incomplete: the folder has no "
        + " and no ".join([fast_file, *missing])
    )
    raise BadInput(Issue(message, file=str(path), hint=GET_IT.format(path=path)))


def _check_vocabulary(path: Path, tokenizer: Any) -> None:
    """Raise `BadInput` if the tokenizer has ids that the model has no embedding for."""
    from transformers import AutoConfig

    if not (path / "config.json").is_file():
        return
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    rows = getattr(config.get_text_config(), "vocab_size", None)
    ids = tokenizer.get_vocab()
    if not isinstance(rows, int) or not ids or max(ids.values()) < rows:
        return
    extra = sorted((i, token) for token, i in ids.items() if i >= rows)
    named = ", ".join(repr(token) for _, token in extra[:3])
    more = f" and {len(extra) - 3} more" if len(extra) > 3 else ""
    raise BadInput(
        Issue(
            f"the tokenizer has {extra[-1][0] + 1:,} token ids, but the model has embeddings for"
            f" {rows:,}: no embedding for {named}{more}",
            file=str(path),
            hint="If tokens were added to the tokenizer, resize the embeddings and save the model"
            " again:\n"
            "    from transformers import AutoModel, AutoTokenizer\n"
            f'    tokenizer = AutoTokenizer.from_pretrained("{path}")\n'
            f'    model = AutoModel.from_pretrained("{path}")\n'
            "    model.resize_token_embeddings(len(tokenizer))\n"
            f'    model.save_pretrained("{path}")\n'
            "  The new embeddings are random until they are trained, so the method must train the"
            " embeddings (for example full). Otherwise use the tokenizer that the model was"
            " pretrained with.",
        )
    )
