"""The report in a real browser: it draws figures, makes no requests, and fits a phone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tuneoff.report import build_report
from tuneoff.results.store import StudyFolder

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("labels", [5, 77])
def test_report_in_a_browser(
    study: Callable[..., StudyFolder], open_report: Callable[..., Any], labels: int
) -> None:
    report = build_report(
        study(labels=labels, hostile=labels == 5, predictions=labels == 5),
        "tuneoff compare study.yaml",
    )
    page = open_report(report, viewport={"width": 1280, "height": 900})
    plots = page.locator("[data-plot]")
    assert plots.count() > 15
    drawn = "plots => plots.map(p => p.querySelectorAll('svg.main-svg').length)"
    assert all(plots.evaluate_all(drawn))

    page.set_viewport_size({"width": 390, "height": 844})
    # Plotly resizes its plots after a short time.
    page.wait_for_function("document.documentElement.scrollWidth <= 390")

    page.emulate_media(color_scheme="dark")
    page.locator("#confusion-method").select_option("1")
    assert page.locator("#classes-method").input_value() == "1"
    assert page.locator("[data-method='0']:visible").count() == 0

    head = page.locator(".results thead button").nth(3)
    head.focus()
    page.keyboard.press("Enter")
    assert page.locator(".results th[aria-sort]").get_attribute("aria-sort") == "descending"

    page.pdf(format="A4")
