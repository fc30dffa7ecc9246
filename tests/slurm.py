"""A real Slurm on this machine alone, for the tests: munge, slurmctld and slurmd on 127.0.0.1.

    python tests/slurm.py start DIR     then: export SLURM_CONF=DIR/slurm.conf
    python tests/slurm.py stop DIR

Everything it writes lies in DIR, which must not be there yet. It needs Debian's packages slurm-wlm
and munge, no cgroups, and no service of the system's to be running; whoever starts it is Slurm's
only user.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
INSTALL = "apt-get install slurm-wlm munge"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # where Debian keeps what serves
SECONDS_TO_START = 60.0

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller}
SlurmdPort={node}
# A job that was requeued waits until the credential of its first start has run out.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# Without cgroups, which a container seldom lets one use.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,bf_interval=2
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={megabytes} State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE PriorityTier=1
PartitionName=urgent Nodes={host} MaxTime=INFINITE PriorityTier=2
"""


def missing() -> list[str]:
    """Programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]


def start(folder: Path, cores: int = 2) -> Path:
    """Start all three; the configuration's path, for `SLURM_CONF`."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)  # munged refuses a folder that others may write to
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    conf = folder / "slurm.conf"
    controller, node = _free_port(), _free_port()
    conf.write_text(
        CONF.format(
            host=socket.gethostname().partition(".")[0],
            user=getpass.getuser(),
            controller=controller,
            node=node,
            folder=folder,
            cores=cores,
            megabytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 9 // 10,
        )
    )
    os.environ["SLURM_CONF"] = str(conf)
    munge = [f"--{name}-file={folder / file}" for name, file in (
        ("key", "munge.key"), ("pid", "munged.pid"), ("log", "munged.log"), ("seed", "munge.seed"),
    )]  # fmt: skip
    _run("munged", "--force", f"--socket={folder / 'munge.socket'}", *munge)
    _run("slurmctld", "-c")
    _run("slurmd", "-c")
    _wait_until_idle(folder)
    return conf


def stop(folder: Path) -> None:
    """Stop all three, and whatever they were running."""
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    with suppress(subprocess.SubprocessError):
        _run("scancel", f"--user={getpass.getuser()}")
        limit = time.monotonic() + 40
        while _run("squeue", "--noheader") and time.monotonic() < limit:
            time.sleep(0.5)
    for name in ("slurmd", "slurmctld", "munged"):
        with suppress(OSError, ValueError):
            pid = int((folder / f"{name}.pid").read_text())
            os.kill(pid, signal.SIGTERM)
            limit = time.monotonic() + 20
            while Path(f"/proc/{pid}").exists() and time.monotonic() < limit:
                time.sleep(0.1)


def _run(*words: str) -> str:
    program = shutil.which(words[0], path=PATH)
    if program is None:
        raise SystemExit(f"{words[0]} is not installed: {INSTALL}")
    done = subprocess.run(
        [program, *words[1:]], capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        raise subprocess.SubprocessError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_until_idle(folder: Path) -> None:
    limit = time.monotonic() + SECONDS_TO_START
    said = ""
    while time.monotonic() < limit:
        with suppress(subprocess.SubprocessError):
            said = _run("sinfo", "--noheader", "--format=%T")
            if said == "idle":
                return
        time.sleep(0.5)
    logs = "\n".join(path.read_text()[-2000:] for path in sorted(folder.glob("*.log")))
    stop(folder)
    raise SystemExit(f"Slurm did not start: its node is '{said}'\n{logs}")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("start", "stop"):
        raise SystemExit(__doc__)
    where = Path(sys.argv[2]).absolute()
    if sys.argv[1] == "stop":
        stop(where)
    else:
        print(f"export SLURM_CONF={start(where)}")
