"""The configuration of a throw-away Slurm cluster: its files and the wrappers of its commands."""

import os
import secrets
import shlex
import shutil
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

#: Where daemons live, which an ordinary user's PATH leaves out.
SYSTEM_PATH = "/usr/sbin:/usr/local/sbin:/sbin"
_DAEMONS = ("munged", "slurmctld", "slurmd")
_ACCOUNTING_DAEMONS = ("mariadbd", "slurmdbd")
_COMMANDS = ("sacct", "sacctmgr", "salloc", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun", "sstat")


@dataclass(frozen=True)
class Options:
    """What a cluster is like. CPUs, GPUs and memory (MB) are of each node; waits are in seconds."""

    nodes: int = 2
    cpus: int = 2
    gpus: int = 0
    memory: int = 4000
    accounting: bool = False
    kill_wait: int = 5
    #: How long a requeued job waits before it may start again, and how late a start may be on a busy machine: 5 at
    #: least, otherwise Slurm takes its default of 120.
    cred_expire: int = 10
    #: Between the notice of preemption and the end of a job of the partition ``low``.
    grace: int = 5
    #: More lines of slurm.conf; they win over those here.
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where a cluster lives: its folder, a folder with a short name for sockets, its user."""

    folder: Path
    run: Path
    user: str


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


def which(program: str) -> str | None:
    """The path of an installed program."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '/usr/bin:/bin')}:{SYSTEM_PATH}")


def missing(accounting: bool = False) -> list[str]:
    """The programs that a cluster needs and that are not installed."""
    wanted = [*_DAEMONS, "sbatch", *(_ACCOUNTING_DAEMONS if accounting else ())]
    return [name for name in wanted if which(name) is None]


def write_commands(folder: Path, conf: Path) -> None:
    """Slurm's commands, each knowing its slurm.conf: programs that clear SLURM_* lose the cluster otherwise."""
    folder.mkdir(exist_ok=True)
    for name in _COMMANDS:
        program = which(name)
        if program and Path(program).parent != folder:
            script = f'#!/bin/sh\nSLURM_CONF={shlex.quote(str(conf))} exec {shlex.quote(program)} "$@"\n'
            (folder / name).write_text(script)
            (folder / name).chmod(0o755)


def write_configuration(place: Place, options: Options, nodes: list[str], ports: list[int]) -> None:
    """Write slurm.conf, gres.conf, slurmdbd.conf and the key. The ports: controller, database daemon, nodes."""
    etc = place.folder / "etc"
    for folder in (etc, place.folder / "log", place.folder / "state"):
        folder.mkdir(parents=True, exist_ok=True)
    _write_secret(etc / "munge.key", secrets.token_bytes(128))
    host = socket.gethostname().split(".")[0]
    lines = [
        *_daemons(place, options, host, ports[0]),
        *_scheduling(options),
        *_accounting(place, options, ports[1]),
        *_nodes(options, host, nodes, ports[2:]),
        *options.lines,
    ]
    (etc / "slurm.conf").write_text("\n".join(lines) + "\n")
    if options.gpus:
        devices = _fake_gpus(place.folder / "dev", options.gpus)
        rows = [f"NodeName={node} Name=gpu File={device}\n" for node in nodes for device in devices]
        (etc / "gres.conf").write_text("".join(rows))
    if options.accounting:
        _write_secret(etc / "slurmdbd.conf", _slurmdbd(place, host, ports[1]).encode())


def _daemons(place: Place, options: Options, host: str, port: int) -> list[str]:
    log = place.folder / "log"
    return [
        "ClusterName=throwaway",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={port}",
        f"SlurmUser={place.user}",
        f"SlurmdUser={place.user}",
        "AuthType=auth/munge",
        "CredType=cred/munge",
        f"AuthInfo=socket={place.run}/munge.socket,cred_expire={options.cred_expire}",
        "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny",
        f"StateSaveLocation={place.folder}/state",
        f"SlurmdSpoolDir={place.run}/spool/%n",
        f"SlurmctldPidFile={place.run}/slurmctld.pid",
        f"SlurmdPidFile={place.run}/slurmd.%n.pid",
        f"SlurmctldLogFile={log}/slurmctld.log",
        f"SlurmdLogFile={log}/slurmd.%n.log",
        "MpiDefault=none",
        "PropagateResourceLimits=NONE",
        # No cgroups, and more CPUs and memory than the machine has are believed.
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "SlurmdParameters=config_overrides",
        "SlurmctldTimeout=30",
        "SlurmdTimeout=60",
        "InactiveLimit=0",
        "ReturnToService=2",
    ]


def _scheduling(options: Options) -> list[str]:
    return [
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        "SchedulerType=sched/backfill",
        "SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1",
        f"KillWait={options.kill_wait}",
        "MinJobAge=600",
        "JobRequeue=1",
        "PreemptType=preempt/partition_prio",
        "PreemptMode=REQUEUE",
        # A job that asked for --signal=USR2@N gets that signal when it is preempted.
        "SlurmctldParameters=preempt_send_user_signal",
        *(["GresTypes=gpu"] if options.gpus else []),
    ]


def _accounting(place: Place, options: Options, port: int) -> list[str]:
    if not options.accounting:
        return ["AccountingStorageType=accounting_storage/none", "JobAcctGatherType=jobacct_gather/none"]
    return [
        "AccountingStorageType=accounting_storage/slurmdbd",
        "AccountingStorageHost=127.0.0.1",
        f"AccountingStoragePort={port}",
        f"AccountingStoragePass={place.run}/munge.socket",
        # Accounts that nobody has are refused, as real clusters do.
        "AccountingStorageEnforce=associations",
        "JobAcctGatherType=jobacct_gather/linux",
        "JobAcctGatherFrequency=1",
    ]


def _nodes(options: Options, host: str, names: list[str], ports: list[int]) -> list[str]:
    claims = f"CPUs={options.cpus} Sockets=1 CoresPerSocket={options.cpus} ThreadsPerCore=1 RealMemory={options.memory}"
    gres = f" Gres=gpu:{options.gpus}" if options.gpus else ""
    memory = max(1, options.memory // options.cpus // 4)
    return [
        # Names that are addresses: a job may use the first node's as the address where its ranks meet.
        *(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} {claims}{gres} State=UNKNOWN"
            for name, port in zip(names, ports, strict=True)
        ),
        f"PartitionName=DEFAULT Nodes=ALL State=UP DefaultTime=10 MaxTime=INFINITE DefMemPerCPU={memory}",
        "PartitionName=batch Default=YES PriorityTier=10 PreemptMode=OFF",
        f"PartitionName=low PriorityTier=1 PreemptMode=REQUEUE GraceTime={options.grace}",
        "PartitionName=high PriorityTier=100 PreemptMode=OFF",
    ]


def _slurmdbd(place: Place, host: str, port: int) -> str:
    lines = [
        "AuthType=auth/munge",
        f"AuthInfo=socket={place.run}/munge.socket",
        f"DbdHost={host}",
        "DbdAddr=127.0.0.1",
        f"DbdPort={port}",
        f"SlurmUser={place.user}",
        f"PidFile={place.run}/slurmdbd.pid",
        f"LogFile={place.folder}/log/slurmdbd.log",
        "StorageType=accounting_storage/mysql",
        "StorageHost=localhost",
        "StorageUser=root",
        "StorageLoc=slurm_acct_db",
    ]
    return "\n".join(lines) + "\n"


def _write_secret(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(content)


def _fake_gpus(folder: Path, count: int) -> list[Path]:
    """A file for each GPU of a node. Jobs get CUDA_VISIBLE_DEVICES only where they are devices."""
    folder.mkdir(parents=True, exist_ok=True)
    fakes = [folder / f"gpu{number}" for number in range(count)]
    try:
        for fake in fakes:
            os.mknod(fake, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        terminals = [Path(f"/dev/tty{number}") for number in range(count)]
        if all(path.is_char_device() for path in terminals):
            return terminals
        for fake in fakes:
            fake.touch()
    return fakes
