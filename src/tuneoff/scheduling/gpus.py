"""Detection of GPUs without torch, with names as in CUDA_VISIBLE_DEVICES."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_DRIVER_FOLDER = Path("/proc/driver/nvidia/gpus")
_SECONDS = 60
"""Timeout of `nvidia-smi`, which takes some seconds if it must load the driver."""


@dataclass(frozen=True)
class Gpu:
    """A GPU, and its MIG instances if it is partitioned."""

    uuid: str
    instances: tuple[str, ...] = ()
    """UUIDs of the MIG instances."""

    @property
    def devices(self) -> tuple[str, ...]:
        """Devices for runs: the MIG instances, or else the GPU itself."""
        return self.instances or (self.uuid,)


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """Return the CUDA devices that a process with this environment can use.

    These are the entries of CUDA_VISIBLE_DEVICES (numbers, UUIDs, MIG ids), up to the first entry
    that is not a device, as in CUDA. Without the variable they are the UUIDs of all GPUs and MIG
    instances. The list is empty on a machine without an NVIDIA driver.
    """
    cards = machine_gpus()
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    if listed is None or not cards:
        return [device for card in cards for device in card.devices]
    devices: list[str] = []
    for entry in map(str.strip, listed.split(",")):
        if not _names_device(entry, cards):
            break
        devices.append(entry)
    return list(dict.fromkeys(devices))


def _names_device(entry: str, cards: list[Gpu]) -> bool:
    if entry.isascii() and entry.isdigit():
        return int(entry) < len(cards)
    # CUDA also accepts prefixes of UUIDs. MIG instances are unknown without nvidia-smi.
    known = [card.uuid for card in cards] + [x for card in cards for x in card.instances]
    return entry.startswith("MIG-") or (
        entry.startswith("GPU-") and any(uuid.startswith(entry) for uuid in known)
    )


def machine_gpus() -> list[Gpu]:
    """Return the GPUs of this machine in PCI order, from nvidia-smi or else from the driver."""
    return _from_nvidia_smi() or _from_driver()


def _from_nvidia_smi() -> list[Gpu]:
    with suppress(OSError, subprocess.TimeoutExpired):  # missing, or without a response
        result = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        if result.returncode == 0:
            return _cards(result.stdout)
    return []


def _cards(listing: str) -> list[Gpu]:
    """Parse lines `GPU 0: NAME (UUID: GPU-…)`, each followed by `MIG … (UUID: MIG-…)` lines."""
    cards: list[Gpu] = []
    for line in listing.splitlines():
        match = re.search(r"\(UUID: ((?:GPU|MIG)-[^)\s]+)\)", line)
        if match is None:
            continue
        if match[1].startswith("GPU-"):
            cards.append(Gpu(match[1]))
        elif cards:
            cards[-1] = Gpu(cards[-1].uuid, (*cards[-1].instances, match[1]))
    return cards


def _from_driver() -> list[Gpu]:
    """Return the GPUs that the kernel driver lists, which does not include MIG instances."""
    cards = []
    for file in sorted(_DRIVER_FOLDER.glob("*/information")):
        with suppress(OSError):
            match = re.search(r"GPU UUID:\s*(GPU-\S+)", file.read_text(errors="replace"))
            cards += [Gpu(match[1])] if match else []
    return cards
