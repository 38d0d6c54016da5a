"""The SLURM script queues again when its time is up, and never after an error."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "pretrain.sbatch"
COMMANDS = {
    # Stands for all processes: ends at once, or as they do on SIGTERM.
    "srun": "trap 'kill $!; exit \"$AT_SIGTERM\"' TERM\n"
    'echo $$ >"$FAKES/step.new"; mv "$FAKES/step.new" "$FAKES/step"; echo "$*" >"$FAKES/srun.log"\n'
    '[ -z "$ENDS" ] || exit "$ENDS"\n'
    "sleep 30 & wait $!\n",
    "scancel": 'echo "$*" >>"$FAKES/scancel.log"; kill "$(cat "$FAKES/step")"\n',
    "scontrol": 'echo "$*" >>"$FAKES/scontrol.log"; [ "$1" = requeue ] || echo node1\n',
}


@pytest.mark.parametrize(
    ("ends", "at_sigterm", "code", "queues"),
    [
        ("0", None, 0, False),
        # One process failed, e.g. while tokenising, and SIGTERM ended the others.
        ("2", None, 2, False),
        ("143", None, 143, False),
        # Pre-empted: the processes got SIGTERM, this script did not.
        ("130", None, 130, True),
        # The time was up: while training, while tokenising, or when nothing could be saved.
        (None, "130", 130, True),
        (None, "143", 143, True),
        (None, "1", 1, False),
    ],
)
def test_queues_again_when_time_is_up_only(tmp_path, ends, at_sigterm, code, queues):
    for name, lines in COMMANDS.items():
        path = tmp_path / name
        path.write_text(f"#!/usr/bin/env bash\n{lines}")
        path.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "FAKES": str(tmp_path),
        "ENDS": ends or "",
        "AT_SIGTERM": at_sigterm or "",
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": "16",
        "SLURM_CPUS_PER_TASK": "8",
        "SLURM_JOB_NODELIST": "node[1-2]",
    }
    job = subprocess.Popen(["bash", str(SCRIPT), str(tmp_path / "net")], env=environment)
    if at_sigterm is not None:
        deadline = time.monotonic() + 30
        while not (tmp_path / "srun.log").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(30) == code
        assert (tmp_path / "scancel.log").read_text() == "--signal=TERM 7\n"
    assert job.wait(30) == code
    assert ("requeue 7" in (tmp_path / "scontrol.log").read_text()) == queues
    asked = (tmp_path / "srun.log").read_text()
    assert "--cpus-per-task=8" in asked
    assert f"--resume --output {tmp_path / 'net'}" in asked
