"""The report in a real browser: it draws, asks the network for nothing, and fits a telephone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tuneoff.report import build_report
from tuneoff.store import StudyFolder

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("labels", [5, 77])
def test_the_report_in_a_browser(
    study: Callable[..., StudyFolder], browser: Any, labels: int
) -> None:
    report = build_report(
        study(labels=labels, hostile=labels == 5, predictions=labels == 5),
        "tuneoff compare study.yaml",
    )
    complaints: list[str] = []
    requests: list[str] = []
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    page.wait_for_selector("html[data-drawn]", state="attached", timeout=60_000)

    assert requests == [report.as_uri()]
    plots = page.locator("[data-plot]")
    assert plots.count() > 15
    drawn = "plots => plots.map(p => p.querySelectorAll('svg.main-svg').length)"
    assert all(plots.evaluate_all(drawn))

    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(500)  # Plotly fits its plots to the window a moment later
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

    page.emulate_media(color_scheme="dark")
    page.locator("#confusion-method").select_option("1")
    assert page.locator("#classes-method").input_value() == "1"
    assert page.locator("[data-method='0']:visible").count() == 0

    head = page.locator(".results thead button").nth(3)
    head.focus()
    page.keyboard.press("Enter")
    assert page.locator(".results th[aria-sort]").get_attribute("aria-sort") == "descending"

    page.pdf(format="A4")
    assert complaints == []
    page.close()
