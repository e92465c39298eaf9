"""Breaks in the way it is told to."""

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from methods.components.base import Method
from methods.components.prediction import Prediction


def leak() -> None:
    """Take memory up to a limit of the process, which is the old one afterwards."""
    old = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**28, old[1]))
    held = []
    try:
        while True:
            held.append(bytearray(2**24))
    finally:
        held.clear()
        resource.setrlimit(resource.RLIMIT_AS, old)


ENDS = {
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: sys.exit("the method leaves"),
    "hard exit": lambda: os._exit(3),
    "hang": lambda: time.sleep(600),
    "leak": leak,
    "interrupt": lambda: os.kill(os.getpid(), signal.SIGINT),
}


class ToyBreaks(Method):
    paper = "https://example.org/toy"
    protocols = ("few_shot",)

    @dataclass(kw_only=True)
    class Config:
        category: str = "metal_nut"
        how: str = "raise"

    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        anomaly_map = images.mean(dim=1)
        if self.config.category in categories:
            if self.config.how == "raise":
                raise RuntimeError("broken on purpose")
            if self.config.how == "nan":
                anomaly_map = torch.full_like(anomaly_map, torch.nan)
            if self.config.how == "shape":
                anomaly_map = anomaly_map[0]
            if end := ENDS.get(self.config.how):
                end()
            if self.config.how == "memory" and len(images) > 2:
                raise torch.cuda.OutOfMemoryError("imagined")
        return Prediction(images.mean(dim=(1, 2, 3)), anomaly_map)
