"""Several processes on one result folder: started by hand, by mpirun, or as srun would. Each cell
is run once, whoever ends does not end the others, and the table is that of one process."""

import os
import shutil
import signal
import subprocess
import time

import h5py
import pytest

import tiny
from conftest import PROGRAM, environment, swbench
from long_runs import long_config, stamps, start, table, wait_for_cells, without_times

CELLS, SLOW_CELLS = 13, 7  # of long_config and slow
MPI = (
    shutil.which("mpirun") is not None
    and "libmpi" in subprocess.run(["ldd", PROGRAM], capture_output=True, text=True).stdout
)
needs_mpi = pytest.mark.skipif(not MPI, reason="no mpirun, or a program without MPI")


def done_by(messages):
    return int(messages.split(" cells done")[0].split()[-1])


def slow(world, folder):
    """Half as many cells, each of them timed, and so long enough to be caught at it."""
    workload = {"kind": "synthetic", "shape": "smollm2-135m", "layers": 2, "decode_tokens": 2}
    return long_config(
        world,
        folder,
        workloads=[workload],
        measure=["recovery", "output_error", "latency"],
        axes={"context": tiny.CONTEXT, "density": [0.5, 0.7], "phase": "both"},
        timing={"warmup_ms": 30, "min_runs": 3, "max_seconds": 0.03},
    )


@pytest.fixture(scope="session")
def slow_table(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("slow")
    swbench("run", slow(world, folder), "-q", check=0)
    return without_times(table(folder / "out"))


def hidden(out):
    return list(out.rglob(".*"))


# --- by hand --------------------------------------------------------------------------------------


def test_two_share_the_work(world, tmp_path, uninterrupted):
    config, out = long_config(world, tmp_path), tmp_path / "out"
    both = [start("run", config) for _ in range(2)]
    messages = [process.communicate(timeout=100)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], messages
    assert sum(done_by(text) for text in messages) == CELLS, messages
    assert all(
        done_by(text) + int(text.split(" there already")[0].split()[-1]) == CELLS
        for text in messages
    ), messages
    assert without_times(table(out)) == uninterrupted[0] and not hidden(out)


def stop_in_a_cell(process, out):
    """Stops the process where it has claimed a cell and not finished it; returns the file that is
    still missing."""
    while process.poll() is None:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        for claim in (out / "cells").glob(".*.lock"):
            cell = out / "cells" / (claim.name[1:33] + ".h5")
            if not cell.exists():
                return cell
        process.send_signal(signal.SIGCONT)
        time.sleep(0.003)
    pytest.fail("it ended before it could be stopped")


def test_a_cell_that_is_held_is_waited_for_and_taken_over(world, tmp_path, slow_table):
    """One process is stopped in the middle of a cell. The other does all the rest and waits; when
    the first is killed, it does that cell too."""
    config, out = slow(world, tmp_path), tmp_path / "out"
    first = start("run", config)
    wait_for_cells(first, out, 2)
    held = stop_in_a_cell(first, out)
    before = stamps(out)
    second = start("run", config)
    wait_for_cells(second, out, SLOW_CELLS - 1)
    time.sleep(0.3)
    assert second.poll() is None and not held.exists()
    first.kill()
    first.communicate()
    _, messages = second.communicate(timeout=60)
    assert second.returncode == 0 and "waiting for 1 cell " in messages, messages
    assert {
        name: stamp for name, stamp in before.items() if name.endswith(".h5")
    }.items() <= stamps(out).items()
    swbench("run", config, "-q", check=0)
    assert without_times(table(out)) == slow_table and not hidden(out)


def test_what_a_claim_left_behind_is_removed(world, tmp_path):
    config, out = world.config(tmp_path / "c.yaml"), tmp_path / "out"
    (out / "cells").mkdir(parents=True)
    for name in (out / "cells" / f".{'0' * 32}.lock", out / ".results.lock"):
        name.write_bytes(b"")
    swbench("run", config, "-q", check=0)
    assert len(stamps(out)) == 3 and not hidden(out)


def test_fresh_is_shared_too(world, tmp_path):
    config, out = slow(world, tmp_path), tmp_path / "out"
    swbench("run", config, "-q", check=0)
    before = stamps(out)
    both = [start("run", config, "--fresh") for _ in range(2)]
    messages = [process.communicate(timeout=100)[1] for process in both]
    after = stamps(out)
    assert all(before[name] != after[name] for name in before), messages
    assert SLOW_CELLS <= sum(done_by(text) for text in messages) <= 2 * SLOW_CELLS, messages


def test_without_mpi_ranks_come_from_the_environment(world, tmp_path, uninterrupted):
    """As under an srun that does not speak PMI: they share the cells, and only the first one shows
    its progress."""
    config, out = long_config(world, tmp_path), tmp_path / "out"
    slurm = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "2"}
    both = [
        subprocess.Popen(
            [PROGRAM, "run", str(config)],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**slurm, SLURM_PROCID=str(rank)),
        )
        for rank in range(2)
    ]
    messages = [process.communicate(timeout=100)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert "cells done" in messages[0] and all(
        line.startswith("rank 1: warning:") for line in messages[1].splitlines()
    ), messages
    assert without_times(table(out)) == uninterrupted[0] and not hidden(out)


# --- mpirun ---------------------------------------------------------------------------------------


def mpirun(ranks, *args, **changes):
    env = environment(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", **changes)
    return subprocess.Popen(
        [
            "mpirun",
            "-n",
            str(ranks),
            "--oversubscribe",
            "--bind-to",
            "none",
            PROGRAM,
            *map(str, args),
        ],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={key: value for key, value in env.items() if value},
    )


@needs_mpi
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_mpi_gives_the_same(world, tmp_path, uninterrupted, ranks):
    config, out = long_config(world, tmp_path), tmp_path / "out"
    process = mpirun(ranks, "run", config)
    output, messages = process.communicate(timeout=100)
    assert process.returncode == 0 and output == "", messages
    assert (
        messages.count("cells done") == 1 and f"{CELLS} cells done, 0 there already" in messages
    ), messages
    assert without_times(table(out)) == uninterrupted[0] and not hidden(out)
    process = mpirun(ranks, "run", config)
    _, messages = process.communicate(timeout=100)
    assert f"0 cells done, {CELLS} there already" in messages, messages


@needs_mpi
def test_mpi_splits_the_cores(world, tmp_path):
    config = world.config(tmp_path / "c.yaml", threads=0)
    for ranks in (1, 2):
        process = mpirun(ranks, "run", config, "--fresh", SWBENCH_THREADS="")
        _, messages = process.communicate(timeout=100)
        assert process.returncode == 0, messages
        for path in (tmp_path / "out" / "cells").iterdir():
            with h5py.File(path) as file:
                assert file["provenance"].attrs["threads"] == max(
                    1, len(os.sched_getaffinity(0)) // ranks
                )


@needs_mpi
def test_mpi_says_what_is_wrong_once(world, tmp_path):
    config = world.config(tmp_path / "c.yaml", methods=["dense", "sketchwolk"])
    process = mpirun(3, "run", config)
    _, messages = process.communicate(timeout=100)
    assert (
        process.returncode == 2
        and messages.count("sketchwolk") == 1
        and not (tmp_path / "out").exists()
    ), messages


@needs_mpi
def test_mpi_limit_is_of_all_ranks(world, tmp_path):
    process = mpirun(2, "run", long_config(world, tmp_path), "--limit", 5)
    _, messages = process.communicate(timeout=100)
    assert process.returncode == 0 and len(stamps(tmp_path / "out")) == 5, messages


@needs_mpi
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_dies(world, tmp_path, slow_table, victim):
    """mpirun ends the job, what was finished stays, and the same command goes on."""
    config, out = slow(world, tmp_path), tmp_path / "out"
    process = mpirun(2, "run", config)
    wait_for_cells(process, out, 2)
    found = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True
    ).stdout.split()
    ranks = {}
    for pid in found:
        with open(f"/proc/{pid}/environ") as file:
            variables = dict(item.split("=", 1) for item in file.read().split("\0") if "=" in item)
        ranks[int(variables["OMPI_COMM_WORLD_RANK"])] = int(pid)
    os.kill(ranks[victim], signal.SIGKILL)
    _, messages = process.communicate(timeout=60)
    assert process.returncode != 0 and "cells done" not in messages, messages
    before = {name: stamp for name, stamp in stamps(out).items() if name.endswith(".h5")}
    assert 2 <= len(before) < SLOW_CELLS
    process = mpirun(2, "run", config)
    _, messages = process.communicate(timeout=60)
    assert (
        process.returncode == 0
        and f"{SLOW_CELLS - len(before)} cells done, {len(before)} there already" in messages
    ), messages
    assert before.items() <= stamps(out).items() and not hidden(out)
    assert without_times(table(out)) == slow_table
