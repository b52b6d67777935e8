"""What is asked: a study as its file says it, and one run of it as the engine gets it.

`StudySpec` mirrors the study file key by key; `RunSpec` is one method with one seed, every default
filled in. Both are plain dataclasses: pydantic checks them where a file or a user's mapping comes
in (`parse_study`), and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from tuneoff.errors import BadInput, Fault, FaultList, nearest
from tuneoff.tune_spec import Trial, TuneSpec, plain_tune, tune_faults

T = TypeVar("T")

ENGINE = 3
"""Part of every run's identity; raised when the engine answers the same spec otherwise."""

Precision = Literal["auto", "bf16", "fp16", "fp32"]
Device = Literal["auto", "cpu", "cuda", "mps"]
ClassWeights = Literal["none", "balanced"] | dict[str, float]


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Where the labelled rows are and how they are split.

    A path may name CSV, TSV, JSONL or Parquet (each also gzipped), or a data set of the Hugging
    Face hub as ``hf:name``, ``hf:name/config`` being written ``hf:name:config``; the split is the
    one of its role (``train``, ``test``, ``validation``).
    """

    train: str
    test: str | float = 0.2
    """A file, or the fraction of the training file that is held out for the test."""
    validation: str | float = 0.1
    """A file, or the fraction of the training rows that picks the checkpoint."""
    text: str = "text"
    text_pair: str | None = None
    label: str = "label"
    weight: str | None = None
    """Column with a weight per row: of its loss in training, of its score in evaluation."""
    group: str | None = None
    """Column whose values never stand on both sides of a split."""
    max_train: int | None = None
    max_test: int | None = None
    split_seed: int = 0


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """How a run is trained; names follow `transformers.TrainingArguments` where it has them."""

    epochs: int = 3
    batch_size: int = 16
    """Examples per optimizer step, over all devices."""
    max_length: int | None = None
    """Tokens kept of a text (pair); None: as many as the model takes, at most 512."""
    learning_rate: float | Literal["auto"] = "auto"
    """"auto": the method's own default."""
    weight_decay: float = 0.01
    warmup_ratio: float = 0.1
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "linear"
    max_grad_norm: float = 1.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    class_weights: ClassWeights = "none"
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_gamma: float = 2.0
    """Of the focal loss: how much less a row weighs, the surer its label is predicted."""
    label_smoothing_factor: float = 0.0
    precision: Precision = "auto"
    device: Device = "auto"
    attention_dropout: float | Literal["model"] = 0.0
    """0: the fast attention kernels have none. "model": as the model's configuration says."""
    early_stopping_patience: int | None = None
    """Epochs without a better validation score after which a run stops; None: never."""
    micro_batch_tokens: int | None = None
    """Real tokens per forward pass at the most; a step of more is split (same result). None: 2,048
    on a CPU, 16,384 elsewhere."""
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Layers keep their input alone and are computed again in the backward pass: less memory, a
    third more time, the same result. "auto": once a single example does not fit without."""
    frozen_prefix: Literal["stored", "recomputed", "dropout"] = "stored"
    """Layers below the first trained one give the same in each epoch: "stored" keeps their states
    on disk, once per study, "recomputed" does not. "dropout" leaves their dropout on, as the plain
    recipe has it, and stores nothing."""
    checkpoint_seconds: float = 60.0
    """Between two points from which a run that died goes on; the answer is the same."""
    threads: int | None = None
    """CPU threads; None: all cores that this process may use, shared among the workers."""


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """One line of a study's `methods`: a registered method, a name of its own, and settings.

    `config` holds the method's own settings (rank, alpha, …), `train` those of `TrainSpec` in
    which this entry departs from the study.
    """

    method: str
    name: str
    config: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """The runs that answer one question: methods x seeds on one task with one model."""

    model: str
    data: DataSpec
    methods: tuple[MethodSpec, ...] = ()
    train: TrainSpec = TrainSpec()
    seeds: tuple[int, ...] = (0, 1, 2)
    metric: str = "macro_f1"
    margin: float = 0.01
    """Difference of the metric that does not matter: methods shown to be closer are equivalent."""
    limits: dict[str, float] = field(default_factory=dict)
    """The most that the recommended method may need, by the names of `LIMITS`."""
    min_recall: dict[str, float] = field(default_factory=dict)
    """The least recall on the test rows that it must have, by label; in a file under `limits`."""
    tune: TuneSpec | None = None
    """How each method's settings are searched for before its runs; None: they are as given."""


LIMITS = {
    "peak_memory_bytes": "bytes",
    "storage_bytes": "bytes",
    "train_seconds": "seconds",
    "latency_seconds": "seconds",
}
"""Costs of a record that a study may limit, and their unit."""


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One training with one method, setting and seed."""

    name: str
    method: str
    config: dict[str, Any]
    model: str
    train: TrainSpec
    seed: int
    metric: str
    data_fingerprint: str
    model_fingerprint: str
    task_key: str = ""
    """Name of the prepared task: rows, tokenizer and `max_length` by content."""
    trial: Trial | None = None
    """None: a run of the study itself."""

    def content_hash(self) -> str:
        """SHA-256 over what decides the answer: spec, data and model by content, not by path."""
        content = asdict(self) | {"engine": ENGINE}
        for key in ("name", "model", "trial"):
            del content[key]
        if self.trial is not None:
            content["trial"] = self.trial.content()
        for key in ("threads", "checkpoint_seconds"):
            del content["train"][key]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def run_id(self) -> str:
        """`<name>-s<seed>-<8 hex of the content hash>`, safe as a folder's name."""
        return f"{file_name(self.name)}-s{self.seed}-{self.content_hash()[:8]}"


def file_name(name: str) -> str:
    """`name` with everything but letters, digits, `.`, `_` and `-` replaced, never hidden."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:80] or "run"


# -- from a mapping (a YAML file, options) to a spec --------------------------------------------

_TRAIN_KEYS = {f.name for f in fields(TrainSpec)}
_STUDY_KEYS = {f.name for f in fields(StudySpec)} - {"min_recall"}
_METHOD_TRAIN_KEYS = _TRAIN_KEYS - {"device", "threads", "max_length", "checkpoint_seconds"}
"""A method may depart from the study in these; one token store serves all runs of a study."""


def parse_study(content: Mapping[str, Any], *, file: str | None = None) -> StudySpec:
    """A `StudySpec` from nested plain values, as a study file holds them.

    Raises `BadInput` with one fault for each unknown key (naming the nearest known one) and each
    value of a wrong type. Whether the methods and their settings exist is checked where the
    methods are known, by `tuneoff.study.asked_study`.
    """
    study, faults = draft_study(content, file=file)
    if faults:
        raise BadInput(faults)
    return study


def draft_study(
    content: Mapping[str, Any], *, file: str | None = None
) -> tuple[StudySpec, list[Fault]]:
    """As `parse_study`, with the faults beside a study that has defaults in their places.

    So that what else is wrong can be found before anything is said. Raises `BadInput` only where
    no part of the content can be used.
    """
    if not isinstance(content, Mapping):
        raise BadInput(Fault("a study is a mapping of keys to values", file=file))
    if halves := sorted({repr(text)[:80] for text in _strings(content) if not _whole(text)}):
        problem = f"{halves[0]} holds half of a character (a lone surrogate)"
        raise BadInput(Fault(problem, file=file, mend="Write the whole one."))
    # `train:` with nothing behind it, every line of it commented out say, is no value
    content = {key: value for key, value in content.items() if value is not None}
    found = FaultList(_key_faults(content, file))
    plain = {key: _known_part(key, value) for key, value in content.items() if key in _STUDY_KEYS}
    methods, faults = _method_entries(plain.pop("methods", []), file)
    found.faults += faults
    read: dict[str, Any] = {"methods": methods}
    for key, value in ({"seeds": 3} | plain).items():
        with found.collecting():
            read |= _READ[key](value, file) if key in _READ else {key: value}
    study, faults = _typed(read, file)
    found.faults += faults
    found.faults += _value_faults(study, file)
    if _train_faults(study.train, ""):  # said once, and not by each method again
        study = replace(study, train=TrainSpec())
    return study, found.faults


def _typed(plain: dict[str, Any], file: str | None) -> tuple[StudySpec, list[Fault]]:
    """The sections of the right types, the others left as they are by default, and the faults."""
    sound: dict[str, Any] = {"model": "", "data": {"train": ""}}
    if not sound.keys() - plain.keys():
        with suppress(BadInput):
            return validated(StudySpec, plain, file=file), []
    found = FaultList()
    for key, value in plain.items():  # one by one: a faulty one hides no other
        with found.collecting():
            validated(StudySpec, {**sound, key: value}, file=file)
            sound[key] = value
    return validated(StudySpec, sound, file=file), found.faults


_SECTIONS: dict[str, set[str]] = {
    "data": {f.name for f in fields(DataSpec)},
    "train": _TRAIN_KEYS,
    "limits": {*LIMITS, "min_recall"},
    "tune": {f.name for f in fields(TuneSpec)},
}


def _key_faults(content: Mapping[str, Any], file: str | None) -> list[Fault]:
    """Keys that nobody knows, and those that must be there and are not."""
    faults = _unknown(content, _STUDY_KEYS, "", file)
    for section, known in _SECTIONS.items():
        faults += _unknown(content.get(section), known, f"{section}.", file)
    return faults + [
        Fault(f"{key!r} is missing", file=file, mend=mend)
        for key, mend in (("model", _MODEL_MEND), ("data", _DATA_MEND))
        if key not in content
    ]


def _known_part(section: str, value: Any) -> Any:
    if section not in _SECTIONS or not isinstance(value, Mapping):
        return value
    return {key: x for key, x in value.items() if key in _SECTIONS[section]}


def _strings(content: Any) -> Iterator[str]:
    """All strings of nested plain values, keys included."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        for pair in content.items():
            yield from _strings(pair)
    elif isinstance(content, list | tuple):
        for item in content:
            yield from _strings(item)


def _whole(text: str) -> bool:
    """Whether a file can hold `text`."""
    return text.isascii() or not re.search("[\ud800-\udfff]", text)


_MODEL_MEND = "Name a hub id or a local folder (on the command line: --model)."
_DATA_MEND = "Give at least data.train, the file with the labelled rows (--train)."


def read_study(path: str | Path) -> dict[str, Any]:
    """The plain content of a study file; `BadInput` if it is missing or no valid YAML."""
    import yaml

    path = Path(path)
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise BadInput(
            Fault(
                "there is no such study file",
                file=str(path),
                mend=nearest(path.name, near) if near else None,
            )
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        row = mark.line + 1 if mark else None
        problem = getattr(error, "problem", None) or str(error)
        mend = _not_a_study(path)
        fault = Fault(f"not valid YAML: {problem}", file=str(path), row=row, mend=mend)
        raise BadInput(fault) from None
    if not isinstance(content, dict):
        fault = Fault("a study file is a mapping of keys to values", file=str(path))
        raise BadInput(replace(fault, mend=_not_a_study(path)))
    return content


def _not_a_study(path: Path) -> str | None:
    """What to do with a file that is one of data by its name."""
    data = {".csv", ".tsv", ".jsonl", ".parquet", ".gz"}
    return f"Give data with --train {path}" if path.suffix.lower() in data else None


def replace_train(
    train: TrainSpec, changes: Mapping[str, Any], *, where: str = "", file: str | None = None
) -> TrainSpec:
    """`train` with some settings changed, checked; `where` opens the message of each fault."""
    unknown = _unknown(changes, _TRAIN_KEYS, where, file)
    if unknown:
        raise BadInput(unknown)
    plain = _with_named_labels({**asdict(train), **changes})
    changed = replace(train, **asdict(validated(TrainSpec, plain, file=file, where=where)))
    faults = [Fault(text, file=file) for text in _train_faults(changed, where)]
    if faults:
        raise BadInput(faults)
    return changed


def to_plain(study: StudySpec) -> dict[str, Any]:
    """The study as its file would hold it, every default filled in; `parse_study` reads it back."""
    plain = asdict(study)
    if recalls := plain.pop("min_recall"):
        plain["limits"] |= {"min_recall": recalls}
    plain["seeds"] = list(study.seeds)
    if study.tune is not None:
        plain["tune"] |= {
            "over": list(study.tune.over),
            "ranges": {name: list(values) for name, values in study.tune.ranges.items()},
        }
    plain["methods"] = [
        {"method": m.method, "name": m.name, **m.config, **m.train} for m in study.methods
    ]
    return plain


def _method_entries(value: Any, file: str | None) -> tuple[list[dict[str, Any]], list[Fault]]:
    """The entries that can be used, and the faults of the others."""
    if not isinstance(value, list | tuple):
        fault = Fault(f"methods is a list of names and mappings, not {value!r}", file=file)
        return [], [fault]
    found, entries = FaultList(), []
    for entry in value:
        with found.collecting():
            entries.append(_method_entry(entry, file))
    return entries, found.faults


def _with_named_labels(train: Any, file: str | None = None) -> Any:
    """Labels that YAML read as numbers are names, as they are in the data."""
    weights = train.get("class_weights") if isinstance(train, Mapping) else None
    if not isinstance(weights, Mapping):
        return train
    return {**train, "class_weights": {str(label): w for label, w in weights.items()}}


def _method_entry(entry: Any, file: str | None) -> dict[str, Any]:
    if isinstance(entry, str):
        return {"method": entry, "name": entry}
    if not isinstance(entry, Mapping) or not isinstance(entry.get("method"), str):
        raise BadInput(
            Fault(
                f"a method is a name or a mapping with the key 'method', not {entry!r}", file=file
            )
        )
    rest = {key: value for key, value in entry.items() if key not in ("method", "name")}
    return {
        "method": entry["method"],
        "name": str(entry.get("name", entry["method"])),
        "config": {key: value for key, value in rest.items() if key not in _METHOD_TRAIN_KEYS},
        "train": {key: value for key, value in rest.items() if key in _METHOD_TRAIN_KEYS},
    }


def _seeds(value: Any, file: str | None) -> list[int]:
    """`3` means the seeds 0, 1, 2; a list names them."""
    if isinstance(value, bool) or not isinstance(value, int | list | tuple):
        raise BadInput(
            Fault(f"seeds is a number of seeds or a list of them, not {value!r}", file=file)
        )
    seeds = list(range(value)) if isinstance(value, int) else list(value)
    if not seeds or len(set(map(repr, seeds))) < len(seeds):
        rule = "seeds must name at least one seed: a number from 1, or a list with each once"
        raise BadInput(Fault(rule, file=file))
    outside = [s for s in seeds if isinstance(s, int) and not 0 <= s < 2**32]
    if outside:  # numpy takes no others
        raise BadInput(Fault(f"a seed lies in [0, 2^32), not {outside[0]}", file=file))
    return seeds


_UNITS: dict[str, dict[str, float]] = {
    "bytes": {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
    | {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40},
    "seconds": {"": 1, "ms": 1e-3, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400},
}
_EXAMPLES = {"bytes": "2GB, 500 MB or a number of bytes", "seconds": "10m, 1h 30m, 20ms or seconds"}


def _limits(value: Any, file: str | None) -> dict[str, Any]:
    """`{"storage_bytes": "10MB"}` to `{"limits": {"storage_bytes": 10e6}, "min_recall": {}}`."""
    if not isinstance(value, Mapping):
        raise BadInput(Fault(f"limits is a mapping of costs to numbers, not {value!r}", file=file))
    recalls = value.get("min_recall") or {}
    if not isinstance(recalls, Mapping):
        text = f"limits.min_recall is a mapping of labels to numbers, not {recalls!r}"
        raise BadInput(Fault(text, file=file, mend="Write min_recall: {spam: 0.8}."))
    found = {key: quantity(value[key], LIMITS[key]) for key in value if key != "min_recall"}
    faults = [
        Fault(f"limits.{key} should be {_EXAMPLES[LIMITS[key]]}, not {value[key]!r}", file=file)
        for key, limit in found.items()
        if limit is None or not 0 <= limit < math.inf
    ]
    if faults:
        raise BadInput(faults)
    return {
        "limits": {key: limit for key, limit in found.items() if limit is not None},
        # labels that YAML read as numbers are names
        "min_recall": {str(label): recall for label, recall in recalls.items()},
    }


def quantity(value: Any, unit: str) -> float | None:
    """A number of `bytes` or `seconds` from what people write; None if it is neither.

    `kB`, `MB` and `GB` are decimal, `KiB`, `MiB` and `GiB` powers of two; case does not count.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    parts = re.findall(r"([0-9.]+(?:e[+-]?[0-9]+)?)([a-z]*)", _joined(value))
    if not parts or "".join(map("".join, parts)) != _joined(value):
        return None
    if len(parts) > 1 and (unit == "bytes" or not all(name for _, name in parts)):
        return None
    try:
        return sum(float(number) * _UNITS[unit][name] for number, name in parts)
    except (KeyError, ValueError):
        return None


def _joined(value: float | str) -> str:
    return re.sub(r"[\s_,]", "", str(value).lower())


_READ: dict[str, Callable[[Any, str | None], dict[str, Any]]] = {
    "seeds": lambda value, file: {"seeds": _seeds(value, file)},
    "train": lambda value, file: {"train": _with_named_labels(value, file)},
    "limits": _limits,
    "tune": lambda value, file: {"tune": plain_tune(value)},
}
"""Sections that people may write in several ways, and the plain fields of a study they become."""


def _unknown(content: Any, known: set[str], prefix: str, file: str | None) -> list[Fault]:
    if not isinstance(content, Mapping):
        return []
    return [
        Fault(f"unknown key {prefix + str(key)!r}", file=file, mend=nearest(str(key), known))
        for key in content
        if key not in known
    ]


def validated(
    cls: type[T], plain: Mapping[str, Any], *, file: str | None = None, where: str = ""
) -> T:
    """`plain` as a `cls`, each value of the type that the dataclass names; `BadInput` otherwise.

    `where` opens the message of each fault.
    """
    from pydantic import ValidationError

    try:
        kind: Any = cls
        checked: T = _checker(kind).validate_python(plain)
        return checked
    except ValidationError as error:
        # A union fails once for each of its members: one fault says what they all would take.
        wanted: dict[str, list[str]] = {}
        values: dict[str, Any] = {}
        faults = []
        for e in error.errors():
            key = where + ".".join(str(part) for part in e["loc"] if not _is_tag(part))
            if e["type"] == "missing":
                mend = _DATA_MEND if key == "data.train" else None
                faults.append(Fault(f"{key!r} is missing", file=file, mend=mend))
            elif e["type"] == "value_error":  # raised by the class itself
                faults.append(Fault(f"{where}{e['ctx']['error']}", file=file))
            else:
                values[key] = e["input"]
                wanted.setdefault(key, []).append(_wanted(e["type"], e["msg"], e.get("ctx")))
        faults += [
            Fault(f"{key} should be {' or '.join(dict.fromkeys(kinds))}, not {values[key]!r}", file)
            for key, kinds in wanted.items()
        ]
        raise BadInput(faults) from None


@cache
def _checker(cls: type[Any]) -> Any:
    """Building one takes longer than what it does."""
    from pydantic import TypeAdapter

    return TypeAdapter(cls)


def _wanted(kind: str, message: str, context: Mapping[str, Any] | None) -> str:
    """What a value should have been, in the words of a study file."""
    if kind == "literal_error" and context:
        return str(context["expected"])
    names = {"int": "a whole number", "float": "a number", "string": "a text", "bool": "a bool"}
    names |= {
        "tuple": "a list",
        "dict": "a mapping",
        "dataclass": "a mapping of keys to values",
        "list": "a list",
    }
    return names.get(kind.partition("_")[0]) or message.removeprefix("Input should be ")


def _is_tag(part: Any) -> bool:
    """Whether pydantic put this into a location to name a union's member, as `str` or `float`."""
    return isinstance(part, str) and (
        part in ("str", "float", "int", "none", "nullable", "[key]")
        or part.startswith(("literal[", "dict["))
    )


def _train_faults(train: TrainSpec, where: str) -> list[str]:
    """Ranges that the types do not carry."""
    rate, weights = train.learning_rate, train.class_weights
    dropout, patience = train.attention_dropout, train.early_stopping_patience
    tokens = train.micro_batch_tokens
    rules = [
        (train.epochs >= 1, "epochs must be at least 1"),
        (train.batch_size >= 1, "batch_size must be at least 1"),
        (train.max_length is None or train.max_length >= 4, "max_length must be at least 4"),
        (rate == "auto" or 0 < rate < math.inf, "learning_rate must be positive"),
        (0 <= train.weight_decay < math.inf, "weight_decay must not be negative"),
        (0 <= train.warmup_ratio < 1, "warmup_ratio must lie in [0, 1)"),
        (train.max_grad_norm > 0, "max_grad_norm must be positive"),
        (0 <= train.adam_beta1 < 1, "adam_beta1 must lie in [0, 1)"),
        (0 <= train.adam_beta2 < 1, "adam_beta2 must lie in [0, 1)"),
        (0 < train.adam_epsilon < math.inf, "adam_epsilon must be positive"),
        (dropout == "model" or 0 <= dropout < 1, "attention_dropout must lie in [0, 1)"),
        (patience is None or patience >= 1, "early_stopping_patience must be at least 1"),
        (tokens is None or tokens >= 1, "micro_batch_tokens must be at least 1"),
        (train.checkpoint_seconds >= 0, "checkpoint_seconds must not be negative"),
        (0 <= train.focal_gamma < math.inf, "focal_gamma must not be negative"),
        (0 <= train.label_smoothing_factor < 1, "label_smoothing_factor must lie in [0, 1)"),
        (train.threads is None or train.threads >= 1, "threads must be at least 1"),
        (
            isinstance(weights, str) or all(0 < w < math.inf for w in weights.values()),
            "class_weights must be positive",
        ),
    ]
    return [where + text for holds, text in rules if not holds]


def _value_faults(study: StudySpec, file: str | None) -> list[Fault]:
    """Ranges, and names that must differ."""
    data = study.data
    rules = [
        (
            isinstance(data.test, str) or 0 < data.test < 1,
            "data.test is a file, or a fraction in (0, 1)",
        ),
        (
            isinstance(data.validation, str) or 0 < data.validation < 1,
            "data.validation is a file, or a fraction in (0, 1)",
        ),
        (data.max_train is None or data.max_train >= 2, "data.max_train must be at least 2"),
        (data.max_test is None or data.max_test >= 1, "data.max_test must be at least 1"),
        (data.split_seed >= 0, "data.split_seed must not be negative"),
        (0 <= study.margin < 1, "margin must lie in [0, 1)"),
        *(
            (0 <= least <= 1, f"limits.min_recall: {label!r} must lie in [0, 1]")
            for label, least in study.min_recall.items()
        ),
    ]
    texts = _train_faults(study.train, "train.") + [text for holds, text in rules if not holds]
    texts += tune_faults(study.tune, study.seeds) if study.tune is not None else []
    faults = [Fault(text, file=file) for text in texts]
    names = [m.name for m in study.methods]
    return faults + [
        Fault(
            f"two methods are named {name!r}", file=file, mend="Give each entry a name of its own."
        )
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
