"""A throw-away Slurm cluster on this machine: real daemons, everything in one folder, on loopback only.

For tests, and by hand::

    python tests/slurm/cluster.py start DIR --nodes 2 --gpus 1
    eval "$(python tests/slurm/cluster.py env DIR)"; sinfo
    python tests/slurm/cluster.py stop DIR

Runs as root or as an ordinary user, several side by side. CPUs, memory and GPUs of the nodes are claims, which are
counted but not enforced. Partitions: ``batch`` (default), ``low`` (its jobs are preempted and requeued) and ``high``.
"""

import argparse
import contextlib
import json
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from configuration import SYSTEM_PATH, Options, Place, free_ports, which, write_commands, write_configuration
from processes import Process, all_pids, end_all, environment_of, start_of

from waiting import HANG_SECONDS, wait_until

#: In the environment of daemons and of all that is started with ``Cluster.env``: whose it is.
MARK = "HARDSCALE_TEST_CLUSTER"
NODE_MARK = "HARDSCALE_TEST_NODE"
_SLURM_NAMES = ("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "SQUEUE_", "SINFO_", "SACCT_", "SALLOC_")
_RECORD = "cluster.json"


class ClusterError(Exception):
    """A daemon does not start, or a command of Slurm failed."""


class Cluster:
    """A cluster in ``folder``; as a context manager it is started, and stopped at the end.

    Args:
        folder: where it lives; made anew at every start.
        options: what it is like.
        owned: the daemons end with the thread that started them, however that ends.
    """

    def __init__(self, folder: Path, options: Options | None = None, owned: bool = False) -> None:
        self.folder = folder.resolve()
        self.options = options or Options()
        self._launcher = ["setpriv", "--pdeathsig", "KILL"] if owned and which("setpriv") else []
        self.conf = self.folder / "etc" / "slurm.conf"
        self.log = self.folder / "log"
        self.node_names: list[str] = [f"127.0.0.{n}" for n in range(1, self.options.nodes + 1)]
        self._run: Path | None = None
        self._daemons: list[Process] = []
        self._children: list[subprocess.Popen[bytes]] = []

    @classmethod
    def attach(cls, folder: Path) -> "Cluster":
        """The cluster that another process started in ``folder``."""
        try:
            record = json.loads((folder / _RECORD).read_text())
        except OSError as error:
            raise ClusterError(f"no cluster in {folder}") from error
        cluster = cls(folder, Options(**{**record["options"], "lines": tuple(record["options"]["lines"])}))
        cluster._run = Path(record["run"])
        cluster._daemons = [Process(**each) for each in record["daemons"]]
        return cluster

    def __enter__(self) -> "Cluster":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ------------------------------------------------------------ what tests ask

    @property
    def env(self) -> dict[str, str]:
        """Environment for a subprocess that shall see this cluster."""
        env = {name: value for name, value in os.environ.items() if not name.startswith(_SLURM_NAMES)}
        path = [str(self.folder / "bin"), str(Path(sys.executable).parent), env.get("PATH", "/usr/bin:/bin")]
        return {**env, "SLURM_CONF": str(self.conf), "PATH": ":".join([*path, SYSTEM_PATH]), MARK: str(self.folder)}

    def call(self, *words: str, check: bool = True) -> str:
        """Run a command with the cluster's environment; what it printed."""
        done = subprocess.run(
            words,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )
        if check and done.returncode:
            raise ClusterError(f"{shlex.join(words)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def sbatch(self, command: str, *options: str) -> int:
        """Submit a shell command; the job's number. Its output is in the folder's ``log``."""
        output = f"--output={self.log}/job-%j.out"
        return int(self.call("sbatch", "--parsable", output, *options, f"--wrap={command}"))

    def squeue(self) -> dict[int, str]:
        """State of every job, of ended ones too."""
        rows = self.call("squeue", "--noheader", "--states=all", "--format=%A %T").splitlines()
        return {int(number): state for number, state in (row.split() for row in rows)}

    def live_jobs(self) -> list[int]:
        """Jobs that wait, run or are ending."""
        return sorted({int(word) for word in self.call("squeue", "--noheader", "--format=%A").split()})

    def wait_for_state(self, job: int, *states: str) -> str:
        """Wait until a job is in one of the states; which."""
        wait_until(lambda: self.squeue().get(job) in states, f"job {job} {'/'.join(states)}")
        return self.squeue()[job]

    def kill_node(self, name: str, noticed: bool = True) -> None:
        """End a node as a lost machine ends: its daemon and all of its processes at once, by SIGKILL.

        Args:
            name: of ``node_names``.
            noticed: tell the controller now; otherwise it notices after SlurmdTimeout.
        """
        gone = [each for each in self._daemons if each.name == f"slurmd.{name}"]
        end_all(gone, signal.SIGKILL)
        end_all(self._strays(name), signal.SIGKILL)
        self._children = [child for child in self._children if child.poll() is None]
        self._daemons = [each for each in self._daemons if each not in gone]
        self._write_record()
        if noticed:
            self.call("scontrol", "update", f"nodename={name}", "state=down", "reason=lost")

    def revive_node(self, name: str) -> None:
        """Start a killed node's daemon again and wait until it takes jobs."""
        self._start_node(name)
        wait_until(self._ready, f"node {name}", self._children)

    def end_slurmctld(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the controller alone: jobs run on, nobody answers. With SIGKILL what it did not save yet is lost."""
        self.end_daemon("slurmctld", how)

    def end_daemon(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End one daemon: ``slurmctld`` or ``slurmdbd``."""
        gone = [each for each in self._daemons if each.name == name]
        end_all(gone, how)
        for child in self._children:
            if child.pid in {each.pid for each in gone}:
                child.wait(HANG_SECONDS)  # its threads may outlast its main one
        self._children = [child for child in self._children if child.poll() is None]
        self._daemons = [each for each in self._daemons if each not in gone]
        self._write_record()

    def begin_slurmctld(self) -> None:
        """Start the controller, from what the one before it saved, and wait until it answers."""
        self._start_daemon("slurmctld", ["-D", "-i", "-f", str(self.conf)])
        self._wait_until_answered("scontrol", "ping")

    def begin_daemon(self, name: str) -> None:
        """Start ``slurmctld`` or ``slurmdbd`` again and wait until it answers."""
        if name == "slurmctld":
            self.begin_slurmctld()
        else:
            self._begin_slurmdbd()

    # ------------------------------------------------------------ start

    def start(self) -> None:
        """Bring it up: returns when all nodes take jobs.

        Raises:
            ClusterError: a daemon did not start; with the ends of the logs.
        """
        with contextlib.suppress(ClusterError):
            Cluster.attach(self.folder).stop()
        for attempt in (1, 2, 3):
            try:
                self._bring_up()
                return
            except (ClusterError, OSError) as error:
                logs = self._ends_of_logs()
                self.stop()
                # A port may be taken between the look and the bind.
                if attempt == 3 or "Address already in use" not in logs:
                    raise ClusterError(f"{error}\n{logs}") from None
            except BaseException:
                self.stop()
                raise

    def _bring_up(self) -> None:
        for name in ("state", "log", "mariadb", "dev"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        # A Unix socket's path holds 107 characters, and a job step's socket has a long name.
        self._run = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        place = Place(self.folder, self._run, pwd.getpwuid(os.getuid()).pw_name)
        write_configuration(place, self.options, self.node_names, free_ports(2 + len(self.node_names)))
        write_commands(self.folder / "bin", self.conf)
        self._daemons, self._children = [], []
        self._write_record()
        socket = f"{self._run}/munge.socket"
        # --force: the folder may be open to its user only, who is the only one here.
        files = [f"--{name}-file={self._run}/munged.{name}" for name in ("pid", "seed")]
        keys = [f"--key-file={self.folder}/etc/munge.key", f"--log-file={self.log}/munged.log"]
        self._start_daemon("munged", ["--foreground", "--force", f"--socket={socket}", *keys, *files])
        self._wait_until_answered("munge", "--socket", socket, "--no-input")
        if self.options.accounting:
            self._bring_up_accounting(place)
        self.begin_slurmctld()
        for name in self.node_names:
            self._start_node(name)
        wait_until(self._ready, "nodes", self._children)

    def _bring_up_accounting(self, place: Place) -> None:
        data, socket = f"{self.folder}/mariadb", f"{self._run}/mariadb.socket"
        where = ["--no-defaults", f"--datadir={data}", f"--user={place.user}"]
        self.call("mariadb-install-db", *where, "--auth-root-authentication-method=normal", "--skip-test-db")
        sizes = ["--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900"]
        files = [f"--socket={socket}", "--skip-networking", f"--pid-file={self._run}/mariadbd.pid"]
        self._start_daemon("mariadbd", [*where, *files, *sizes, "--innodb-flush-log-at-trx-commit=0"])
        self._wait_until_answered("mariadb-admin", "--no-defaults", "-uroot", f"--socket={socket}", "ping")
        self._begin_slurmdbd()
        for words in (["cluster", "throwaway"], ["account", "test"], ["user", place.user, "account=test"]):
            self.call("sacctmgr", "-i", "add", *words)

    def _begin_slurmdbd(self) -> None:
        self._start_daemon("slurmdbd", ["-D"], MYSQL_UNIX_PORT=f"{self._run}/mariadb.socket")
        self._wait_until_answered("sacctmgr", "-n", "list", "cluster")

    def _start_node(self, name: str) -> None:
        (Path(str(self._run)) / "spool" / name).mkdir(parents=True, exist_ok=True)
        self._start_daemon("slurmd", ["-D", "-N", name, "-f", str(self.conf)], node=name)

    def _start_daemon(self, program: str, options: list[str], node: str = "", **env: str) -> None:
        path = which(program)
        if path is None:
            raise ClusterError(f"{program} is not installed")
        name = f"{program}.{node}" if node else program
        with (self.log / f"{name}.out").open("ab") as out:
            child = subprocess.Popen(
                [*self._launcher, path, *options],
                env={**self.env, **env, NODE_MARK: node}, cwd=self.folder, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._children.append(child)
        self._daemons.append(Process(name, child.pid, start_of(child.pid)))
        self._write_record()

    def _wait_until_answered(self, *words: str) -> None:
        def answered() -> bool:
            return subprocess.run(words, env=self.env, capture_output=True, check=False).returncode == 0

        wait_until(answered, words[0], self._children)

    def _ready(self) -> bool:
        rows = self.call("sinfo", "-h", "-N", "-p", "batch", "-o", "%N %T", check=False).splitlines()
        states = dict(row.split() for row in rows)
        usable = {"idle", "mixed", "allocated", "completing"}
        return set(states) == set(self.node_names) and set(states.values()) <= usable

    def _write_record(self) -> None:
        daemons = [asdict(each) for each in self._daemons]
        record = {"options": asdict(self.options), "run": str(self._run), "daemons": daemons}
        (self.folder / _RECORD).write_text(json.dumps(record, indent=1) + "\n")

    def _ends_of_logs(self) -> str:
        ends = {path.name: path.read_text(errors="replace").splitlines()[-15:] for path in sorted(self.log.glob("*"))}
        return "\n".join(f"--- {name}\n" + "\n".join(lines) for name, lines in ends.items() if lines)

    # ------------------------------------------------------------ stop

    def stop(self) -> None:
        """End daemons, jobs and whatever tests left, at once: nothing of it is kept. Nothing to do when it is stopped.

        Raises:
            ClusterError: a process lives on.
        """
        end_all([*self._daemons, *self._strays()], signal.SIGKILL)
        end_all(self._strays(), signal.SIGKILL)  # what was started while the others were ended
        left = [process for process in (*self._daemons, *self._strays()) if process.alive]
        if left:
            raise ClusterError(f"still running: {left}")
        for child in self._children:
            child.wait(HANG_SECONDS)
        self._daemons, self._children = [], []
        if self._run is not None:
            shutil.rmtree(self._run, ignore_errors=True)
        (self.folder / _RECORD).unlink(missing_ok=True)

    def _strays(self, node: str | None = None) -> list[Process]:
        """Processes of jobs, tests and daemons' helpers, of one node or of all, that are no daemon."""
        daemons = {each.pid for each in self._daemons if each.alive}
        found = []
        for pid in all_pids():
            env = environment_of(pid)
            task_of = env.get("SLURMD_NODENAME") if env.get("SLURM_CONF") == str(self.conf) else None
            ours = env.get(MARK) == str(self.folder) or task_of is not None
            if ours and pid not in daemons and pid != os.getpid() and node in (None, task_of, env.get(NODE_MARK)):
                found.append(Process("stray", pid, start_of(pid)))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("start", "env", "stop"))
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=2, help="that a node claims")
    parser.add_argument("--gpus", type=int, default=0, help="that a node claims")
    parser.add_argument("--memory", type=int, default=4000, help="MB that a node claims")
    parser.add_argument("--accounting", action="store_true", help="with slurmdbd: sacct works")
    parser.add_argument("--line", dest="lines", action="append", default=[], help="one more line of slurm.conf")
    arguments = vars(parser.parse_args())
    verb, folder = arguments.pop("verb"), arguments.pop("folder")
    if verb == "start":
        folder.mkdir(parents=True, exist_ok=True)
        Cluster(folder, Options(**{**arguments, "lines": tuple(arguments["lines"])})).start()
    elif verb == "stop":
        Cluster.attach(folder).stop()
    else:
        print(f'export SLURM_CONF={shlex.quote(str(Cluster.attach(folder).conf))} PATH={folder.resolve()}/bin:"$PATH"')


if __name__ == "__main__":
    try:
        main()
    except ClusterError as failure:
        sys.exit(f"cluster: {failure}")
