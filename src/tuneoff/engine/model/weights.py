"""Check that all weights of the body come from the checkpoint; only the head may be random."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.engine.model.architecture import EncoderArchitecture
from tuneoff.exceptions import Issue, ModelUnavailable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WRAPPERS = {
    "_orig_mod": "torch.compile",
    "module": "DistributedDataParallel",
    "_fsdp_wrapped_module": "FullyShardedDataParallel",
    "_checkpoint_wrapped_module": "a wrapper for activation checkpointing",
    "base_model": "PEFT",
    "base_layer": "PEFT",
}
"""Wrappers that add their name to the names of tensors, as a prefix or, if `INSIDE`, within."""
INSIDE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "base_layer")

RENAME = (
    "    from pathlib import Path\n"
    "    from safetensors.torch import load_file, save_file\n"
    '    for file in Path("{folder}").glob("*.safetensors"):\n'
    "        tensors = {{name.{change}: x for name, x in load_file(file).items()}}\n"
    '        save_file(tensors, file, metadata={{"format": "pt"}})\n'
    '    for file in Path("{folder}").glob("*.index.json"):\n'
    "        file.write_text(file.read_text().replace({written}))"
)

SAVE_AGAIN = (
    "Check that config.json and the weights belong together, or save the model again with"
    " save_pretrained."
)


def check_weights(
    path: Path,
    model: PreTrainedModel,
    architecture: EncoderArchitecture,
    found: Mapping[str, Any],
    *,
    with_head: bool = False,
) -> None:
    """Check that all weights of the body were loaded from the files in `path`.

    Transformers initialises missing weights at random and continues, which is intended only for the
    head.

    Args:
        path: Folder of the model.
        model: The loaded model, or the same without weights on the meta device.
        architecture: Description of `model`.
        found: Loading info, as from `from_pretrained(..., output_loading_info=True)`.
        with_head: Whether the files must also contain the head.

    Raises:
        ModelUnavailable: A weight is missing, has another shape, or does not exist in the model.
    """
    missing = sorted(
        name for name in found["missing_keys"] if with_head or not architecture.is_head(name)
    )
    reshaped = sorted(
        (name, tuple(stored), tuple(expected))
        for name, stored, expected in found["mismatched_keys"]
        if with_head or not architecture.is_head(name)
    )
    unused = sorted(name for name in found["unexpected_keys"] if _of_body(name, model))
    weights = len(model.state_dict())
    if missing and (prefix := _prefix(missing, found["unexpected_keys"], architecture.body)):
        issue = _prefixed(path, prefix, missing, weights)
    elif missing and (part := _inside(missing, found["unexpected_keys"], architecture.body)):
        issue = _with_part(path, part, missing, weights)
    elif missing:
        message = f"{len(missing)} of the model's {weights} weights {_are(missing)} not in the file"
        others = sorted(found["unexpected_keys"])
        other = f". The file has {_listed(others)} instead" if others else ""
        issue = Issue(f"{message} and would be random: {_listed(missing)}{other}", hint=SAVE_AGAIN)
    elif reshaped:
        issue = _of_another_shape(reshaped, model.config)
    elif unused:
        message = f"the file has {_counted(unused)} that the model of config.json does not have"
        issue = Issue(f"{message}: {_listed(unused)}", hint=SAVE_AGAIN)
    else:
        return
    raise ModelUnavailable(Issue(issue.message, file=str(path), hint=issue.hint))


def _of_body(name: str, model: PreTrainedModel) -> bool:
    """Return whether an unexpected tensor belongs to a part of the body that the model has.

    A classifier may ignore the pooler, the decoder or the head of a checkpoint. Buffers and tables
    that Transformers omits on purpose are not among the unexpected tensors.
    """
    body = model.base_model_prefix
    parts = {child for child, _ in model.get_submodule(body).named_children()}
    inner = name.removeprefix(f"{body}.")
    return inner.partition(".")[0] in parts - {"pooler"}


def _prefix(missing: Sequence[str], unexpected: Iterable[str], body: str) -> str | None:
    """Return the most frequent prefix by which an unexpected name differs from a missing one."""
    wanted = {*missing, *(name.removeprefix(f"{body}.") for name in missing)}
    prefixes: Counter[str] = Counter()
    for name in unexpected:
        parts = name.split(".")
        tails = (".".join(parts[i:]) for i in range(1, len(parts)))
        if tail := next((tail for tail in tails if tail in wanted), None):
            prefixes[name.removesuffix(tail)] += 1
    return prefixes.most_common(1)[0][0] if prefixes else None


def _inside(missing: Sequence[str], unexpected: Iterable[str], body: str) -> str | None:
    """Return the wrapper whose name, if removed from an unexpected name, gives a missing one."""
    wanted = {*missing, *(name.removeprefix(f"{body}.") for name in missing)}
    for name in unexpected:
        parts = [part for part in name.split(".") if part in INSIDE]
        if parts and ".".join(p for p in name.split(".") if p not in INSIDE) in wanted:
            return parts[0]
    return None


INSTEAD = "Save the model without the wrapper, or rename the tensors:"
MERGE = "Merge the adapter and save the whole model: model.merge_and_unload().save_pretrained(DIR)"


def _renamed(names: str, wrapper: str, rename: str, missing: Sequence[str], weights: int) -> Issue:
    return Issue(
        f"{names}, so that {len(missing)} of the model's {weights} weights are not found and would"
        f" be random: {_listed(missing)}",
        hint=f"The name comes from {wrapper}. "
        + (MERGE if wrapper == "PEFT" else f"{INSTEAD}\n{rename}"),
    )


def _with_part(path: Path, part: str, missing: Sequence[str], weights: int) -> Issue:
    rename = RENAME.format(folder=path, change=f'replace("{part}.", "")', written=f'"{part}.", ""')
    names = f"names of tensors in the file contain {f'{part}.'!r}"
    return _renamed(names, WRAPPERS[part], rename, missing, weights)


def _prefixed(path: Path, prefix: str, missing: Sequence[str], weights: int) -> Issue:
    change, written = f'removeprefix("{prefix}")', f"'\"{prefix}', '\"'"
    rename = RENAME.format(folder=path, change=change, written=written)
    known = (WRAPPERS[part] for part in prefix.split(".") if part in WRAPPERS)
    names = f"the names of the tensors in the file begin with {prefix!r}"
    return _renamed(names, next(known, "a wrapper class"), rename, missing, weights)


def _of_another_shape(
    reshaped: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]], config: Any
) -> Issue:
    name, stored, required = reshaped[0]
    more = f" (and {len(reshaped) - 1} more)" if len(reshaped) > 1 else ""
    settings = []
    for actual, expected in zip(stored, required, strict=False):
        keys = [k for k, v in config.to_dict().items() if v == expected and type(v) is int]
        if actual != expected and keys:
            settings.append(f"{' or '.join(keys)} from {expected} to {actual}")
    hint = f"If the weights are correct, change {' and '.join(settings)} in config.json. "
    return Issue(
        f"{name} has the shape {_shape(stored)} in the file but {_shape(required)} according to"
        f" config.json, and would be random{more}",
        hint=(hint if settings else "") + SAVE_AGAIN,
    )


def _shape(sizes: tuple[int, ...]) -> str:
    return " × ".join(map(str, sizes))


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)} weight{'s' * (len(names) != 1)}"


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
