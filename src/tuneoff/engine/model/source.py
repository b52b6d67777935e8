"""Find a pretrained model by hub id or local folder; only safetensors, no custom code."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuneoff.engine.model.embedded import EMBEDDED_ID, INSTALL, embedded_folder
from tuneoff.engine.model.untrusted_files import PICKLES, check_header, check_no_code
from tuneoff.exceptions import BadInput, Issue, ModelUnavailable, nearest

LONGEST_DEFAULT = 512
"""Maximum number of tokens if the user sets no max_length, even if the model supports more."""


@dataclass(frozen=True)
class ModelSource:
    """A pretrained model on the local disk."""

    name: str
    """Name that the user gave."""
    path: Path
    fingerprint: str
    """SHA-256 of the configuration and the weights."""
    model_type: str
    """Transformers' `model_type`."""
    max_length: int
    """Maximum number of tokens, `LONGEST_DEFAULT` if the configuration does not specify it."""

    def length(self, asked: int | None) -> int:
        """Return the number of tokens to which texts are truncated.

        Args:
            asked: The `max_length` of the user; None: that of the model, at most `LONGEST_DEFAULT`.

        Raises:
            BadInput: `asked` is more than the model supports.
        """
        if asked is None:
            return min(self.max_length, LONGEST_DEFAULT)
        if asked > self.max_length:
            raise BadInput(
                f"max_length is {asked}, but the model {self.name!r} takes at most"
                f" {self.max_length} tokens.",
                hint=f"Set max_length to {self.max_length} or less.",
            )
        return asked


def find_model(name: str) -> ModelSource:
    """Find the model `name`; download it if it is a hub id that is not in the cache.

    Raises:
        ModelUnavailable: The model cannot be found or downloaded, has no safetensors, or requires
            custom code.
    """
    path = Path(name).expanduser()
    embedded = embedded_folder() if name == EMBEDDED_ID else None
    if embedded is not None:
        path = embedded
    elif not path.is_dir():
        if path.is_absolute() or name.startswith((".", "~")) or path.exists():
            near = (
                [p.name for p in path.parent.iterdir() if p.is_dir()]
                if path.parent.is_dir()
                else []
            )
            message = (
                "this is a file, not a model folder" if path.exists() else "there is no such folder"
            )
            hint = nearest(path.name, near) if near else "Use the folder that contains config.json."
            raise ModelUnavailable(Issue(message, file=name, hint=hint))
        path = _download(name)
    config = _read_config(name, path)
    return ModelSource(
        name=name,
        path=path,
        fingerprint=_fingerprint(path),
        model_type=str(config["model_type"]),
        max_length=_max_length(config),
    )


def hidden_size(path: Path) -> int:
    """Return the hidden size of a pretrained model, as its configuration says."""
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(path, trust_remote_code=False).hidden_size)


_WHOLE = (
    "A model folder contains config.json, weights (*.safetensors) and a tokenizer, as written by"
    " save_pretrained. Download it again."
)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(
            snapshot_download(
                name,
                allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"],
                # Sentence-transformers and ONNX repositories have further copies in subfolders.
                ignore_patterns=["*/*"],
            )
        )
    except GatedRepoError:
        raise ModelUnavailable(
            f"the model {name!r} is gated.",
            hint="Accept its terms on its page, then log in with: hf auth login",
        ) from None
    except (RepositoryNotFoundError, HFValidationError):
        raise ModelUnavailable(
            f"there is no model {name!r} on the hub, and no local folder with this name.",
            hint=_near(name) or "Check the spelling, or use a local folder.",
        ) from None
    except (LocalEntryNotFoundError, OSError):
        raise ModelUnavailable(
            f"the model {name!r} is neither a local folder nor in the local cache, and the hub"
            " cannot be reached.",
            hint=(f"{near}\n  If the name is correct, run" if (near := _near(name)) else "Run")
            + f" on a machine with network access: hf download {name} --local-dir DIR"
            " ; then use --model DIR."
            + (f"\n  Or install this model with: {INSTALL}" if name == EMBEDDED_ID else ""),
        ) from None


def _near(name: str) -> str | None:
    """Return `Did you mean …?` with a model on this machine; None if `name` is one of them."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    known = [EMBEDDED_ID]
    with contextlib.suppress(CacheNotFound, OSError):
        known += [repo.repo_id for repo in scan_cache_dir().repos if repo.repo_type == "model"]
    same_end = [other for other in known if other.rpartition("/")[2] == name and other != name]
    return nearest(same_end[0] if same_end else name, known) if name not in known else None


def _read_config(name: str, path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelUnavailable(
            Issue("this is not a model folder: it has no config.json", file=str(path), hint=_WHOLE)
        ) from None
    except ValueError as error:
        raise ModelUnavailable(
            Issue(
                f"the file is not valid JSON: {error}",
                file=str(path / "config.json"),
                hint=_WHOLE,
            )
        ) from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelUnavailable(
            Issue("the file has no model_type", file=str(path / "config.json"), hint=_WHOLE)
        )
    check_no_code(name, path)
    if not any(path.glob("*.safetensors")):
        pickled = sorted(p.name for p in path.iterdir() if p.suffix in PICKLES)
        if not pickled:
            raise ModelUnavailable(
                Issue("the folder has no weights (no *.safetensors)", file=str(path), hint=_WHOLE)
            )
        raise ModelUnavailable(
            f"the model {name!r} has only {', '.join(pickled)}, but tuneoff loads only safetensors,"
            " because loading a pickle can run code.",
            hint=_convert(name, path),
        )
    for file in path.glob("*.safetensors"):
        check_header(file)
    return config


def _convert(name: str, path: Path) -> str:
    """Return a hint with Python code that converts pickled weights to safetensors.

    The code fails if the file lacks a weight, which Transformers would initialise at random. Only
    the pooler may be missing, because tuneoff treats it as a part of the head.
    """
    tokenizer = f'    AutoTokenizer.from_pretrained("{name}").save_pretrained("DIR")'
    if not any(file for p in ("tokenizer*", "vocab*", "*.model") for file in path.glob(p)):
        tokenizer = "The folder has no tokenizer: copy that of the original model to DIR."
    return (
        "If you trust the model, convert it and its tokenizer:\n"
        "    from transformers import AutoModel, AutoTokenizer\n"
        f'    model, info = AutoModel.from_pretrained("{name}", output_loading_info=True)\n'
        '    random = [x for x in info["missing_keys"] if "pooler" not in x]\n'
        '    assert not random, f"not in the file: {random}"\n'
        f'    model.save_pretrained("DIR")\n{tokenizer}'
    )


def _fingerprint(path: Path) -> str:
    digest = hashlib.sha256()
    for file in [path / "config.json", *sorted(path.glob("*.safetensors"))]:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _max_length(config: dict[str, Any]) -> int:
    """Return the maximum number of tokens; RoBERTa does not use its first positions."""
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions <= 0:
        return LONGEST_DEFAULT
    return positions - first_position(config["model_type"], config.get("pad_token_id"))


ROBERTA_LIKE = frozenset(
    {
        "roberta",
        "xlm-roberta",
        "xlm-roberta-xl",
        "camembert",
        "roberta-prelayernorm",
        "mpnet",
        "longformer",
        "data2vec-text",
        "ibert",
        "xmod",
    }
)


def first_position(model_type: str, pad_token_id: int | None) -> int:
    """Return the position id of the first token: `pad_token_id + 1` if RoBERTa-like, else 0."""
    return (
        (pad_token_id if pad_token_id is not None else 1) + 1 if model_type in ROBERTA_LIKE else 0
    )
