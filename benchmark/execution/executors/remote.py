"""What a process of Ray runs. It loads nothing of ours before the variables that would make it a rank are gone."""

import os
import pickle

#: Variables of SLURM, torchrun and MPI: on the second node of an `srun`, Lightning would take the process for rank 1
#: and write no curves.
RANKS = (
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_NODEID",
    "SLURM_NTASKS",
    "SLURM_NTASKS_PER_NODE",
    "SLURM_NPROCS",
    "RANK",
    "LOCAL_RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "JSM_NAMESPACE_RANK",
)


def run(job: bytes, threads: int) -> bytes:
    """Run a pickled job; returns its pickled record. Pickled, since unpickling loads Lightning."""
    for name in RANKS:
        os.environ.pop(name, None)
    import torch  # noqa: PLC0415

    from benchmark.execution.executors.worker import run_aside  # noqa: PLC0415

    torch.set_num_threads(threads)
    return pickle.dumps(run_aside(pickle.loads(job)))


class Runner:
    """A process that is kept for the next job."""

    def run(self, job: bytes, threads: int) -> bytes:
        """See the function `run`."""
        return run(job, threads)
