"""Specifications of studies, runs and searches, and their validation.

`study.py` and `search.py` define the specifications. `read.py` reads them from the plain values of
a study file, with `types.py` and `ranges.py` for the checks, `values.py` for settings given as
text, and `quantity.py` for quantities such as "500 MB" and "1h 30m".
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
