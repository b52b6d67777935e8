"""What is asked: a study, one run of it, a search for settings.

A study's way in: `read.py` takes a file's plain values, `types.py` and `ranges.py` refuse what
cannot be meant, `quantity.py` reads "500 MB" and "1h 30m"; what comes out is in `study.py` and, of
a search, in `tune.py`.
"""

from tuneoff.config.options import StudyOptions, TunedStudyOptions
from tuneoff.config.quantity import quantity
from tuneoff.config.read import draft_study, parse_study, read_study, replace_train, to_plain
from tuneoff.config.search import TRIAL_SEED, Trial, TuneSpec, plain_tune
from tuneoff.config.study import (
    ENGINE,
    LIMITS,
    METHOD_TRAIN_KEYS,
    STUDY_WIDE,
    ClassWeights,
    DataSpec,
    Device,
    MethodSpec,
    Precision,
    RunSpec,
    StudySpec,
    TrainSpec,
    file_name,
)
from tuneoff.config.types import validated
from tuneoff.config.values import read_values

__all__ = [
    "ENGINE",
    "LIMITS",
    "METHOD_TRAIN_KEYS",
    "STUDY_WIDE",
    "TRIAL_SEED",
    "ClassWeights",
    "DataSpec",
    "Device",
    "MethodSpec",
    "Precision",
    "RunSpec",
    "StudyOptions",
    "StudySpec",
    "TrainSpec",
    "Trial",
    "TuneSpec",
    "TunedStudyOptions",
    "draft_study",
    "file_name",
    "parse_study",
    "plain_tune",
    "quantity",
    "read_study",
    "read_values",
    "replace_train",
    "to_plain",
    "validated",
]
