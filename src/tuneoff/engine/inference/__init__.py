"""Predictions for new texts with a trained model."""

from tuneoff.engine.inference.exported import ExportedModel
from tuneoff.engine.inference.predict import Predictor
from tuneoff.engine.inference.texts import as_texts, blank_note

__all__ = ["ExportedModel", "Predictor", "as_texts", "blank_note"]
