"""A fit and a test of some methods on so many CPU ranks: `python -m tests.support.ranks FOLDER RANKS`.

Rank 0 writes what came of them to FOLDER/RANKS.json, and each rank the images that it read.
"""

import json
import sys
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer

from benchmark.contract.candidates import SIZE, candidates, lend, small_cell
from benchmark.execution.build import build_method
from benchmark.execution.data import fitted_on, open_data, target
from benchmark.execution.evaluator import Evaluator
from methods.components.clip.weights import hash_weights

NAMES = ("winclip", "faprompt", "promptad", "anople", "finegrainedad")  # all kinds of fits
BATCH = 3  # of 8 test images: two whole batches and an uneven one


class Reads(Callback):
    def __init__(self):
        self.fitted, self.tested = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.fitted += batch.path

    def on_test_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.tested += batch.indices.tolist()


def live(name: str, folder: Path, ranks: int) -> None:
    candidate = next(each for each in candidates(name) if each.protocol in ("multi_class", "zero_shot"))
    cell = small_cell(candidate, str(folder / "data"))
    torch.manual_seed(0)  # after seed_everything Lightning seeds again where ranks begin, and only there
    data = open_data(target(cell), SIZE, batch_size=BATCH)
    method = build_method(cell, lend().backbone, data)
    reads, evaluator = Reads(), Evaluator(32)
    several = {"devices": ranks, "strategy": "ddp" if ranks > 1 else "auto", "accelerator": "cpu"}
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    if method.fits_on != "nothing":
        fit = Trainer(**several, **quiet, max_epochs=min(2, method.max_epochs), callbacks=[reads])
        fit.fit(method, open_data(fitted_on(cell), SIZE))
    trainer = Trainer(**several, **quiet, callbacks=[reads, evaluator])
    (logged,) = trainer.test(method, data, verbose=False)
    write(folder / f"{name}-{ranks}-{trainer.global_rank}-reads.json", {"fitted": reads.fitted, "tested": reads.tested})
    if trainer.global_rank == 0:
        learnt = hash_weights(method.state_dict()) if method.state_dict() else ""
        measured = {"metrics": evaluator.measured.metrics, "counts": evaluator.measured.counts}
        write(folder / f"{name}-{ranks}.json", {"learnt": learnt, "logged": logged, **measured})


def write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in NAMES:
        live(each, Path(sys.argv[1]), int(sys.argv[2]))
