"""Peak memory: of PyTorch's allocator on a GPU, of the resident set on a CPU.

The peak is the difference from the level before the model was loaded. On a CPU, Linux records the
peak and allows resetting it (`/proc/self/clear_refs`); on other systems a thread samples the
resident set.
"""

from __future__ import annotations

import threading
from pathlib import Path

import psutil
import torch

from tuneoff.engine.model.out_of_memory import release_memory

_SAMPLE_SECONDS = 0.01


class PeakMemory:
    """Peak memory in bytes above the level at construction, since the last `reset`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        self._sampler: _Sampler | None = None
        release_memory()
        self._level = (
            torch.cuda.memory_allocated(device)
            if device.type == "cuda"
            else self._process.memory_info().rss
        )
        self.reset()

    def reset(self) -> None:
        """Reset the peak at the start of a new phase."""
        release_memory()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        if not _reset_peak() and self._sampler is None:
            self._sampler = _Sampler(self._process)
        elif self._sampler is not None:
            self._sampler.reset()

    def peak(self) -> int:
        """Return the peak since the last reset: allocated on a GPU, resident elsewhere."""
        if self._device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self._device)
        else:
            peak = self._sampler.peak if self._sampler is not None else _resident_peak()
        return max(0, peak - self._level)

    def reserved(self) -> int | None:
        """Return the peak that a GPU's allocator reserved since the last reset; None elsewhere."""
        return torch.cuda.max_memory_reserved(self._device) if self._device.type == "cuda" else None


class _Sampler:
    """Samples the resident set every 10 ms, on systems without a peak that can be reset."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self.peak = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(_SAMPLE_SECONDS):
            self.peak = max(self.peak, self._process.memory_info().rss)

    def reset(self) -> None:
        self.peak = self._process.memory_info().rss


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident_peak() -> int:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def weight_bytes(model: torch.nn.Module) -> int:
    """Return the size of parameters and buffers in memory, in bytes.

    Shared ones are counted once; quantised ones are counted with their scales.
    """
    weights = [*model.parameters(), *model.buffers()]
    states = [state for w in weights if (state := getattr(w, "quant_state", None)) is not None]
    # With double quantisation, the scales have a quantisation state, too.
    states += [second for s in states if (second := getattr(s, "state2", None)) is not None]
    weights += [x for s in states for x in (s.absmax, s.code)]
    return sum({t.data_ptr(): t.nbytes for t in weights}.values())
