"""Run a sweep of runs on two devices with Slurm: `make slurm`, as root, with Debian's slurmctld, slurmd and munge.

The script starts a cluster of one node with its files in a temporary folder, submits a sweep with
`hydra/launcher=submitit_slurm`, checks that the jobs of two processes each have finished, and ends the daemons. It
exits with 0 on success, and with 77 if Slurm is not installed or does not start.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnnbench.processes.cores import count_processors
from cnnbench.storage.csv_tables import read_csv
from cnnbench.storage.plain_data import read_json

SKIPPED = 77
PROGRAMS = ("munged", "slurmctld", "slurmd", "sinfo", "sbatch")
STARTS = 60.0  # seconds
CONFIG = """\
ClusterName=cnnbench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={other_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class NoSlurm(RuntimeError):
    """Slurm is not installed, or does not start on this machine."""


@contextmanager
def run_cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Run a cluster of this machine alone; yields the environment variables of its commands.

    Raises:
        NoSlurm: a program is missing, or the node does not come up.
    """
    missing = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if missing:
        raise NoSlurm(f"{', '.join(missing)} not found: apt-get install slurmctld slurmd munge")
    key, config = folder / "munge.key", folder / "slurm.conf"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    ports = {"port": find_port(), "other_port": find_port()}
    config.write_text(CONFIG.format(host=socket.gethostname(), folder=folder, cores=count_processors(), **ports))
    environment = os.environ | {"SLURM_CONF": str(config), "PATH": f"{os.environ['PATH']}:/usr/sbin"}
    munge = [f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in ("socket", "pid-file", "log-file")]
    commands = [
        ["munged", "--foreground", "--force", f"--key-file={key}", f"--seed-file={folder}/munge.seed", *munge],
        ["slurmctld", "-D", "-f", str(config)],
        ["slurmd", "-D", "-f", str(config)],
    ]
    daemons = []
    try:
        for command in commands:
            with open(folder / f"{command[0]}.out", "w") as out:
                daemons.append(subprocess.Popen(command, env=environment, stdout=out, stderr=out))
            time.sleep(1)  # the next daemon connects to it
        wait_until_idle(environment, daemons)
        yield environment
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()


def wait_until_idle(environment: dict[str, str], daemons: list[subprocess.Popen[bytes]]) -> None:
    """Return when the node accepts jobs."""
    ends = time.monotonic() + STARTS
    while time.monotonic() < ends:
        if ended := [str(daemon.args[0]) for daemon in daemons if daemon.poll() is not None]:  # type: ignore[index]
            raise NoSlurm(f"{', '.join(ended)} ended")
        state = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"], env=environment, capture_output=True, text=True, check=False
        )
        if state.stdout.strip() == "idle":
            return
        time.sleep(0.5)
    raise NoSlurm(f"the node is not idle after {STARTS:.0f} s: {state.stdout}{state.stderr}")


def find_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def check_sweep(folder: Path, environment: dict[str, str]) -> None:
    """Submit a sweep of two runs on two devices, and check its results."""
    command = [sys.executable, "-m", "cnnbench", "train", "-m", "model=mlp", "trainer.epochs=2", "data.train_limit=200"]
    command += ["seed=0,1", "trainer.devices=2", "hydra/launcher=submitit_slurm", "hydra.launcher.partition=main"]
    command += ["hydra.launcher.cpus_per_task=2", "hydra.launcher.mem_gb=null", "hydra.sweep.dir=sweep"]
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=600)
    sweep = folder / "sweep"
    states = [row["state"] for row in read_csv(sweep / "results.csv")]
    assert states == ["finished"] * 2, states
    for job in "01":
        assert read_json(sweep / job / "env.json")["torch_threads"] == 1
        assert "trainer.devices=2" in " ".join(read_json(sweep / "jobs.json")["command"])
    print(f"{len(states)} jobs of two processes finished under Slurm")


def main() -> int:
    """Run the check; returns the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    try:
        with run_cluster(folder) as environment:
            check_sweep(folder, environment)
    except NoSlurm as error:
        print(f"no Slurm here: {error} (logs: {folder})", file=sys.stderr)
        return SKIPPED
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
