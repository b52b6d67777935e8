"""Finding a pretrained model: a hub id or a local folder, safetensors alone, no code of others."""

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
"""Tokens; where the user sets no max_length, even if the model takes more."""


@dataclass(frozen=True)
class ModelSource:
    """A pretrained model on this machine's disk."""

    name: str
    """As the user wrote it."""
    path: Path
    fingerprint: str
    """SHA-256 over configuration and weights."""
    model_type: str
    max_length: int
    """Tokens that the model takes; `LONGEST_DEFAULT` where its configuration is silent."""

    def length(self, asked: int | None) -> int:
        """Tokens to keep of a text: as many as `asked`; `BadInput` if the model cannot take them.

        None: as many as the model takes, `LONGEST_DEFAULT` at the most.
        """
        if asked is None:
            return min(self.max_length, LONGEST_DEFAULT)
        if asked > self.max_length:
            raise BadInput(
                f"max_length is {asked}, but the model {self.name!r} takes {self.max_length}"
                " tokens at the most.",
                hint=f"Set max_length to {self.max_length} or less.",
            )
        return asked


def find_model(name: str) -> ModelSource:
    """The model called `name`, downloaded if it is a hub id and not in the cache yet.

    Raises `ModelUnavailable` if it cannot be reached, has no safetensors, or would need code of
    its own to run.
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
            said = "is a file, not a model's folder" if path.exists() else "there is no such folder"
            hint = nearest(path.name, near) if near else "Give the folder that holds config.json."
            raise ModelUnavailable(Issue(said, file=name, hint=hint))
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
    """Width of the pretrained model's states, from its configuration alone."""
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(path, trust_remote_code=False).hidden_size)


_WHOLE = (
    "A model's folder holds config.json, weights (*.safetensors) and a tokenizer, as"
    " save_pretrained writes them: download it again."
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
                # Sentence-transformers and ONNX repositories hold further copies in subfolders.
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
            f"there is no model {name!r} on the hub, and no folder of that name here.",
            hint=_near(name) or "Check the spelling, or give a local folder.",
        ) from None
    except (LocalEntryNotFoundError, OSError):
        raise ModelUnavailable(
            f"the model {name!r} is no folder here, is not in the local cache, and the hub cannot"
            " be reached.",
            hint=(f"{near}\n  If it is right, on" if (near := _near(name)) else "On")
            + f" a machine with a network: hf download {name} --local-dir DIR"
            " ; then give --model DIR."
            + (f"\n  This one also comes with: {INSTALL}" if name == EMBEDDED_ID else ""),
        ) from None


def _near(name: str) -> str | None:
    """`Did you mean …?`, of the models that are on this machine."""
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
            Issue("is no model's folder: it holds no config.json", file=str(path), hint=_WHOLE)
        ) from None
    except ValueError as error:
        raise ModelUnavailable(
            Issue(f"is not valid JSON: {error}", file=str(path / "config.json"), hint=_WHOLE)
        ) from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelUnavailable(
            Issue("names no model_type", file=str(path / "config.json"), hint=_WHOLE)
        )
    check_no_code(name, path)
    if not any(path.glob("*.safetensors")):
        pickled = sorted(p.name for p in path.iterdir() if p.suffix in PICKLES)
        if not pickled:
            raise ModelUnavailable(
                Issue("holds no weights (no *.safetensors)", file=str(path), hint=_WHOLE)
            )
        raise ModelUnavailable(
            f"the model {name!r} has only {', '.join(pickled)}, and tuneoff loads safetensors"
            " alone: loading a pickle can run code.",
            hint=_convert(name, path),
        )
    for file in path.glob("*.safetensors"):
        check_header(file)
    return config


def _convert(name: str, path: Path) -> str:
    """Return the lines that convert pickled weights to safetensors.

    They fail if the file lacks a weight, which Transformers would initialise at random. Only the
    pooler may be missing: it belongs to the head here.
    """
    tokenizer = f'    AutoTokenizer.from_pretrained("{name}").save_pretrained("DIR")'
    if not any(file for p in ("tokenizer*", "vocab*", "*.model") for file in path.glob(p)):
        tokenizer = "The folder has no tokenizer: copy the files of the original model's into DIR."
    return (
        "Convert it where you trust it, with its tokenizer:\n"
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
    """Positions that the model has for tokens; RoBERTa leaves the first ones unused."""
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
    """Position id of a text's first token: `pad_token_id + 1` in RoBERTa and its kin, else 0."""
    return (
        (pad_token_id if pad_token_id is not None else 1) + 1 if model_type in ROBERTA_LIKE else 0
    )
