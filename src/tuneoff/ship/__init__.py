"""Putting a trained run to use."""

from tuneoff.ship.predict import Predictor
from tuneoff.ship.texts import as_texts, blank_note

__all__ = ["Predictor", "as_texts", "blank_note"]
