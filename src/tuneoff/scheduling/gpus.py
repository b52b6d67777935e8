"""The GPUs of this machine, found without importing torch, as CUDA_VISIBLE_DEVICES names them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_DRIVER_FOLDER = Path("/proc/driver/nvidia/gpus")
_SECONDS = 60
"""`nvidia-smi` loads the driver where nothing keeps it loaded, which takes some seconds."""


@dataclass(frozen=True)
class Gpu:
    """One card, and the MIG instances that it is divided into, if any."""

    uuid: str
    instances: tuple[str, ...] = ()

    @property
    def devices(self) -> tuple[str, ...]:
        """What a run can be given: the instances of a divided card, else the card."""
        return self.instances or (self.uuid,)


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """The CUDA devices that a process with this environment may use, one entry for each run.

    The entries of CUDA_VISIBLE_DEVICES as they are written (numbers, UUIDs, MIG ids); without that
    variable the UUIDs of all cards and MIG instances. As in CUDA, an entry that names no device
    ends the list. Empty on a machine without an NVIDIA driver.
    """
    cards = machine_gpus()
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    if listed is None or not cards:
        return [device for card in cards for device in card.devices]
    found: list[str] = []
    for entry in map(str.strip, listed.split(",")):
        if not _names_device(entry, cards):
            break
        found.append(entry)
    return list(dict.fromkeys(found))


def _names_device(entry: str, cards: list[Gpu]) -> bool:
    if entry.isascii() and entry.isdigit():
        return int(entry) < len(cards)
    # CUDA takes the beginning of a UUID, too. Instances are unknown where nvidia-smi is missing.
    known = [card.uuid for card in cards] + [x for card in cards for x in card.instances]
    return entry.startswith("MIG-") or (
        entry.startswith("GPU-") and any(uuid.startswith(entry) for uuid in known)
    )


def machine_gpus() -> list[Gpu]:
    """The cards of this machine in the order of the PCI bus, from nvidia-smi or else the driver."""
    return _from_nvidia_smi() or _from_driver()


def _from_nvidia_smi() -> list[Gpu]:
    with suppress(OSError, subprocess.TimeoutExpired):  # there is none, or it hangs
        ended = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        if ended.returncode == 0:
            return _cards(ended.stdout)
    return []


def _cards(listing: str) -> list[Gpu]:
    """`GPU 0: NAME (UUID: GPU-…)`, each followed by its indented `MIG … (UUID: MIG-…)` lines."""
    found: list[Gpu] = []
    for line in listing.splitlines():
        match = re.search(r"\(UUID: ((?:GPU|MIG)-[^)\s]+)\)", line)
        if match is None:
            continue
        if match[1].startswith("GPU-"):
            found.append(Gpu(match[1]))
        elif found:
            found[-1] = Gpu(found[-1].uuid, (*found[-1].instances, match[1]))
    return found


def _from_driver() -> list[Gpu]:
    """What the kernel's driver says; it does not know of MIG instances."""
    found = []
    for file in sorted(_DRIVER_FOLDER.glob("*/information")):
        with suppress(OSError):
            match = re.search(r"GPU UUID:\s*(GPU-\S+)", file.read_text(errors="replace"))
            found += [Gpu(match[1])] if match else []
    return found
