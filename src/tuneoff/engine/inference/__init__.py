"""Predictions for new texts with a trained model."""

from tuneoff.engine.inference.exported import ExportedModel, TextClassifier, original
from tuneoff.engine.inference.predict import Predictor
from tuneoff.engine.inference.texts import as_texts, blank_note

__all__ = [
    "ExportedModel",
    "Predictor",
    "TextClassifier",
    "as_texts",
    "blank_note",
    "original",
]
