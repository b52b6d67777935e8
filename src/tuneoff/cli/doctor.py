"""`tuneoff doctor`: versions, device and speed of this machine."""

from __future__ import annotations


def doctor() -> None:
    """Show versions, device, precision, and the measured speed of matrix products."""
    from rich.table import Table

    from tuneoff.display.console import Terminal
    from tuneoff.engine.measure.compute import product_rate
    from tuneoff.engine.measure.environment import environment
    from tuneoff.engine.model.precision import DTYPES, choose_device, choose_precision

    device = choose_device("auto")
    precision = choose_precision("auto", device)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for key, value in environment(device).items():
        if key.endswith("memory_bytes"):
            key, value = key.removesuffix("_bytes").replace("_", " "), f"{value / 2**30:.1f} GiB"
        table.add_row(key, str(value) if value is not None else "not installed")
    table.add_row("precision", f"{precision} (used by --precision auto)")
    for name in dict.fromkeys((precision, "fp32")):
        rate = product_rate(DTYPES[name], device)
        table.add_row(f"{name} matrix products", f"{rate / 1e12:.2f} TFLOP/s, measured now")
    Terminal().print(table)
