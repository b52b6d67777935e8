from __future__ import annotations

from made_records import answers, judged, record, study

__all__ = ["answers", "judged", "record", "study"]
