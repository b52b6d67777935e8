"""5: one spec goes down, one record comes back.

`door` resolves what the spec asks and writes the record, whatever happens; `encoder` and
`classical` do what lies between; `job` is what they share.
"""

from tuneoff.run.door import check_saved, run

__all__ = ["check_saved", "run"]
