"""Save trained models in formats that Transformers or PEFT can open without tuneoff."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tuneoff.engine.data.tokenizer import load_tokenizer
from tuneoff.engine.kernels.packed_forward import Classifier, unwrapped
from tuneoff.engine.model.load import PreparedModel
from tuneoff.engine.model.saved import REBUILT
from tuneoff.exceptions import RunFailed
from tuneoff.methods import config_to_plain
from tuneoff.methods.base import Method
from tuneoff.results.store import write_json

LISTED = 12
"""Maximum number of labels in a model card."""


def save_classifier(
    prepared: PreparedModel, base: Path, folder: Path, *, method: Method, config: Any, name: str
) -> None:
    """Save a trained classifier: float32 weights, `config.json` with labels, tokenizer, model card.

    Weights that were not trained are copied from the pretrained model, because the classifier may
    have them in a lower precision.

    The folder of an adapter contains `base/`, with the configuration of the base model, the labels
    of the study, and a link to the weights, because PEFT reads the number of labels only from the
    base. A model with modules that neither Transformers nor PEFT can build has `base/`, too, and
    `method.json`, from which `tuneoff.load` builds the modules.

    Args:
        prepared: The trained model. It must not be used afterwards.
        base: Folder of the pretrained model.
        folder: Folder to write; an existing one is replaced.
        method: The method.
        config: Settings of the method.
        name: Name of the pretrained model, for the model card.
    """
    classifier, weights = prepared.classifier, dict(prepared.masters)
    prepared.hook.before_save(weights)
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    labelled = _config(classifier, base)
    if hasattr(classifier.model, "peft_config"):
        _save_adapter(classifier.model, weights, base, labelled, temporary, folder)
    elif _adds_modules(classifier, base):
        plain = {"method": method.name, "config": config_to_plain(config)}
        _save_beside({**_head(classifier), **weights}, base, labelled, plain, temporary)
    else:
        _save_whole(base, labelled, {**_head(classifier), **weights}, temporary)
    load_tokenizer(base).save_pretrained(temporary)
    card = _card(method, name, list(labelled.id2label.values()), _opener(temporary, classifier))
    (temporary / "README.md").write_text(card, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)


def _opener(folder: Path, classifier: Classifier) -> str:
    """Return the function that opens the saved model, for the model card."""
    if (folder / REBUILT).is_file() or classifier.passes_prefix:
        return "tuneoff.load, given the folder of the run"
    if (folder / "adapter_config.json").is_file():
        return "peft.AutoPeftModelForSequenceClassification.from_pretrained"
    return "transformers.AutoModelForSequenceClassification.from_pretrained"


def _card(method: Method, name: str, labels: list[str], opener: str) -> str:
    """Return the model card, which replaces the empty template of the libraries."""
    listed = ", ".join(
        f"`{json.dumps(label, ensure_ascii=False)[1:-1]}`" for label in labels[:LISTED]
    )
    more = f" and {len(labels) - LISTED} more (`config.json`)" if len(labels) > LISTED else ""
    return f"""---
library_name: {"peft" if opener.startswith("peft") else "transformers"}
pipeline_tag: text-classification
---

# Text classifier trained with `{method.name}`

- **Base model**: `{name}`
- **Method**: `{method.name}`, {method.summary}
- **Labels**: {listed}{more}
- **Open with**: `{opener}`
- **Data, settings, scores**: `record.json` and `predictions.parquet` in the parent folder
"""


def _config(classifier: Classifier, base: Path) -> Any:
    """Return the configuration of the base model with the labels of the study."""
    from transformers import AutoConfig

    used = unwrapped(classifier.model).config
    more = {"pad_token_id": used.pad_token_id} if used.pad_token_id is not None else {}
    return AutoConfig.from_pretrained(
        base,
        id2label=used.id2label,
        label2id=used.label2id,
        problem_type=used.problem_type,
        architectures=[type(unwrapped(classifier.model)).__name__],
        dtype="float32",
        **more,
    )


def _head(classifier: Classifier) -> dict[str, Tensor]:
    """Return the weights of the head, even if they were not trained: the base model has none."""
    return {
        name: parameter
        for name, parameter in classifier.model.named_parameters()
        if classifier.architecture.is_head(name)
    }


def _save_whole(base: Path, config: Any, weights: Mapping[str, Tensor], folder: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(
        base, config=config, dtype=torch.float32, use_safetensors=True, ignore_mismatched_sizes=True
    )
    _overlay(model, weights)
    model.save_pretrained(folder)


def _overlay(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    state = {name: value.detach().cpu() for name, value in weights.items()}
    unexpected = model.load_state_dict(state, strict=False).unexpected_keys
    if unexpected:
        raise RunFailed(f"the model that is to be saved has no parameter {unexpected[0]}")


def _link_base(base: Path, config: Any, folder: Path) -> None:
    linked = folder / "base"
    linked.mkdir()
    config.save_pretrained(linked)
    for weights in (*base.glob("*.safetensors"), *base.glob("*.safetensors.index.json")):
        (linked / weights.name).symlink_to(weights.resolve())


def _adds_modules(classifier: Classifier, base: Path) -> bool:
    """Return whether the model has weights that a model built from its configuration lacks."""
    from transformers import AutoModelForSequenceClassification

    with torch.device("meta"):
        plain = AutoModelForSequenceClassification.from_config(_config(classifier, base))
    return not dict(classifier.model.named_parameters()).keys() <= plain.state_dict().keys()


def _save_beside(
    weights: Mapping[str, Tensor], base: Path, config: Any, method: Any, folder: Path
) -> None:
    _link_base(base, config, folder)
    config.save_pretrained(folder)
    state = {name: value.detach().float().cpu().contiguous() for name, value in weights.items()}
    save_file(state, folder / "trained.safetensors")
    write_json(folder / REBUILT, method)


@torch.no_grad()
def _save_adapter(
    model: Any,
    masters: Mapping[str, Tensor],
    base: Path,
    config: Any,
    temporary: Path,
    folder: Path,
) -> None:
    for name, parameter in model.named_parameters():
        if name in masters:
            parameter.data = masters[name].data
    _link_base(base, config, temporary)
    adapter = model.peft_config["default"]
    adapter.base_model_name_or_path = str((folder / "base").resolve())
    adapter.inference_mode = True
    # By default PEFT would query the hub to find out whether the vocabulary was changed.
    model.save_pretrained(temporary, save_embedding_layers=False)
    config.save_pretrained(temporary)
