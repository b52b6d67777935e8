"""Fixture of a simulated CUDA device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from stand_in import CudaStandIn

Card = Callable[..., CudaStandIn]


@pytest.fixture
def card() -> Iterator[Card]:
    """`card(capability=(7, 5), memory=1 << 30)`: simulate such a device until the test ends."""

    with ExitStack() as active:

        def insert(capability: tuple[int, int] = (8, 0), **options: int) -> CudaStandIn:
            return active.enter_context(CudaStandIn(capability, **options))

        yield insert
