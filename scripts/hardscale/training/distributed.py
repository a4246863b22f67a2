"""The ranks of a distributed job: how they meet and what they tell each other."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from hardscale.errors import TrainingError
from hardscale.runtime import pulse
from hardscale.training.meeting import Meeting
from hardscale.training.options import PATIENCE_SECONDS

RENDEZVOUS_SECONDS = 180.0
_meetings = itertools.count()


@dataclass(frozen=True)
class Group:
    """The ranks of this job as one of them sees them."""

    rank: int
    world: int
    device: torch.device
    meeting: Meeting | None = None

    @property
    def leader(self) -> bool:
        """Whether this rank writes what is written once."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Element-wise sum over ranks of a float64 vector, on the CPU. Every rank must call it."""
        if self.world == 1:
            return values
        shared = values.to(self.device)
        dist.all_reduce(shared)
        return shared.cpu()

    def gather(self, value: Any) -> list[Any]:
        """Every rank's plain value, in rank order, on every rank."""
        if self.world == 1:
            return [value]
        self._meet()
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world > 1:
            self._meet()
            self.sum(torch.zeros(1, dtype=torch.float64))

    def _meet(self) -> None:
        """Wait outside of any collective, which would end with its timeout: the others may have much more to do."""
        if self.meeting is not None:
            self.meeting.wait()


def start_group(threads: int = 1, meeting: Path | None = None, patience: float = PATIENCE_SECONDS) -> Group:
    """Join the ranks that the environment names (``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``); alone when it is silent.

    Args:
        threads: CPU threads of this rank.
        meeting: a file that no job has used yet; ranks of one machine meet there, so that two jobs never want one
            port. Without it they meet at ``MASTER_ADDR:MASTER_PORT``.
        patience: seconds until a collective, or waiting for a rank that gives no sign of life, is an error.

    Raises:
        TrainingError: a rank did not come within three minutes.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    for name, value in (("RANK", rank), ("WORLD_SIZE", world), ("LOCAL_RANK", local), ("LOCAL_SIZE", world)):
        os.environ.setdefault(name, str(value))
    torch.set_num_threads(threads)
    cuda = torch.cuda.is_available()
    if not cuda:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        if meeting is not None and Path("/sys/class/net/lo").exists():
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    device = torch.device("cuda", local % torch.cuda.device_count()) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    _be_deterministic()
    if not dist.is_initialized():
        if world > 1 and meeting is not None:
            _wait_for_everyone(meeting, rank, world)
        _init(cuda, rank, world, meeting, patience)
    if world == 1:
        return Group(rank, world, device)
    known = Meeting(rank, world, patience)
    pulse.start(patience, known.beat)
    return Group(rank, world, device, known)


def _be_deterministic() -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling every empty tensor with NaN costs time and guards against nothing that is done here.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _wait_for_everyone(meeting: Path, rank: int, world: int) -> None:
    meeting.parent.mkdir(parents=True, exist_ok=True)
    store = dist.FileStore(str(meeting.with_name(meeting.name + ".hello")), world)
    store.set_timeout(timedelta(seconds=RENDEZVOUS_SECONDS))
    store.set(f"rank{rank}", "here")
    for other in range(world):
        try:
            store.wait([f"rank{other}"])
        except (RuntimeError, dist.DistStoreError) as error:
            raise TrainingError(
                f"rank {other} of {world} did not come within {RENDEZVOUS_SECONDS:.0f} s; see its log, then run again"
            ) from error


def _init(cuda: bool, rank: int, world: int, meeting: Path | None, patience: float) -> None:
    import deepspeed
    import deepspeed.ops

    deepspeed.utils.logger.setLevel("WARNING")
    if not cuda:
        # Otherwise init_distributed compiles a shared-memory op that training never calls: minutes with a compiler,
        # a failure without one, and a stale lock that hangs every later job when a compile is killed.
        deepspeed.ops.__dict__["__compatible_ops__"] = {}
    where: dict[str, Any] = {"init_method": _meeting_at(meeting, rank, world)} if meeting is not None else {}
    if meeting is None and "MASTER_ADDR" not in os.environ:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    deepspeed.init_distributed(
        dist_backend="nccl" if cuda else "gloo",
        auto_mpi_discovery=False,
        verbose=False,
        timeout=timedelta(seconds=patience),
        rank=rank,
        world_size=world,
        **where,
    )


def _meeting_at(meeting: Path, rank: int, world: int) -> str:
    """A URL by which torch finds the file where ranks meet. It holds no path: ``?`` and ``#`` would cut one short."""

    def meet(url: str, **_: Any) -> Iterator[tuple[dist.Store, int, int]]:  # noqa: ARG001
        yield dist.FileStore(str(meeting.absolute()), world), rank, world
        raise RuntimeError("a distributed job is started anew as a whole")

    scheme = f"meeting{next(_meetings)}"
    dist.register_rendezvous_handler(scheme, meet)
    return f"{scheme}://"
