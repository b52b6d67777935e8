"""Saving what a method trained, so that Transformers or PEFT alone opens it."""

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
from tuneoff.engine.model.load import REBUILT, PreparedModel
from tuneoff.exceptions import RunFailed
from tuneoff.methods import config_to_plain
from tuneoff.methods.base import Method
from tuneoff.results.store import write_json

LISTED = 12
"""Labels that a model card names."""


def save_classifier(
    prepared: PreparedModel, base: Path, folder: Path, *, method: Method, config: Any, name: str
) -> None:
    """Write `folder`: trained weights in float32, labels in `config.json`, the tokenizer, a card.

    `base` is the pretrained model's folder, `name` what it is called. Weights that did not train
    are taken from there, not from the model's copy in the computing precision. An adapter's folder
    holds `base/`, the base model's configuration with the study's labels and a link to its weights:
    PEFT reads the number of labels from the base and nowhere else. So does that of a method whose
    modules neither Transformers nor PEFT know, with `method.json` by which `tuneoff.load` builds
    them again.
    The prepared's model is not to be used any more.
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
    """What opens a saved model, of the three kinds there are."""
    if (folder / REBUILT).is_file() or classifier.passes_prefix:
        return "tuneoff.load, given the folder of the run"
    if (folder / "adapter_config.json").is_file():
        return "peft.AutoPeftModelForSequenceClassification.from_pretrained"
    return "transformers.AutoModelForSequenceClassification.from_pretrained"


def _card(method: Method, name: str, labels: list[str], opener: str) -> str:
    """A model card: what this is, in place of the empty form that libraries leave."""
    told = ", ".join(
        f"`{json.dumps(label, ensure_ascii=False)[1:-1]}`" for label in labels[:LISTED]
    )
    more = f" and {len(labels) - LISTED} more (`config.json`)" if len(labels) > LISTED else ""
    return f"""---
library_name: {"peft" if opener.startswith("peft") else "transformers"}
pipeline_tag: text-classification
---

# A text classifier by `{method.name}`

- **From**: `{name}`, {method.summary}
- **Labels**: {told}{more}
- **Opens with**: `{opener}`
- **Data, settings, scores**: `record.json` and `predictions.parquet` in the folder above
"""


def _config(classifier: Classifier, base: Path) -> Any:
    """The base model's own configuration with the study's labels."""
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
    """The head as it was used: the base has none, and one drawn again would be another."""
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
        raise RunFailed(f"the saved model has no place for {unexpected[0]}")


def _link_base(base: Path, config: Any, folder: Path) -> None:
    linked = folder / "base"
    linked.mkdir()
    config.save_pretrained(linked)
    for weights in (*base.glob("*.safetensors"), *base.glob("*.safetensors.index.json")):
        (linked / weights.name).symlink_to(weights.resolve())


def _adds_modules(classifier: Classifier, base: Path) -> bool:
    """Whether the model has weights that one built from its configuration has not."""
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
    # Left to itself PEFT would ask the hub whether the vocabulary was changed.
    model.save_pretrained(temporary, save_embedding_layers=False)
    config.save_pretrained(temporary)
