"""Kill or full disk at every call that changes a file: no incomplete state is ever read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the shim is for Linux")


def drive(shim: Path, *arguments: Any) -> Any:
    """Run the driver and return its results."""
    done = subprocess.run(
        [sys.executable, HERE / "driver.py", *map(str, arguments)],
        env={**os.environ, "LD_PRELOAD": str(shim)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_no_incomplete_state_is_read(shim: Path, tmp_path: Path) -> None:
    for found in drive(shim, tmp_path):
        points = 3 * found["calls"]
        assert found["calls"] >= 2, found
        assert found.get("torn", 0) == 0, found
        assert found["old"] + found.get("new", 0) == points, found
        assert found["then"] == points, found
        assert found["told"] > 0, found
