"""A sweep outlives what ends or spoils it: kill -9 and SIGTERM at random moments, cells cut short
or changed, a disk that is full for a while. In the end the table is, bit for bit, that of a run in
peace. SWBENCH_SURVIVAL_KILLS and SWBENCH_SURVIVAL_SEED make it longer and other."""

import os
import random
import resource
import shutil
import signal
import subprocess
import time

import h5py
import pytest

from conftest import swbench
from long_runs import long_config, stamps, start, table, without_times

KILLS = int(os.environ.get("SWBENCH_SURVIVAL_KILLS", "12"))
SEED = int(os.environ.get("SWBENCH_SURVIVAL_SEED", "5"))


def finished(out):
    """The cells that are there, by name, with their stamps."""
    return (
        {name: stamp for name, stamp in stamps(out).items() if not name.startswith(".")}
        if (out / "cells").is_dir()
        else {}
    )


def look_whole(out):
    for path in [*(out / "cells").glob("[!.]*"), *out.glob("*.h5")]:
        with h5py.File(path) as file:
            assert file.attrs["version"] == 1 and ("status" in file.attrs) == (
                path.parent.name == "cells"
            )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_ended_at_random_moments(world, tmp_path, uninterrupted, number):
    """Each visible file is whole and nothing is done twice. A sweep that is through is compared,
    and begun anew until the kills are used up."""
    moments, left, sweeps = (
        random.Random(SEED),
        KILLS if number == signal.SIGKILL else max(4, KILLS // 4),
        0,
    )
    longest = uninterrupted[1]
    while left > 0:
        sweeps += 1
        folder = tmp_path / f"sweep{sweeps}"
        config, out = long_config(world, folder), folder / "out"
        through = False
        while not through:
            before = finished(out)
            process = start("run", config, "-q")
            if left > 0:
                time.sleep(moments.uniform(0.02, 0.5 * longest))
                process.send_signal(number)
            _, messages = process.communicate(timeout=100)
            through = process.returncode == 0
            left -= not through
            assert process.returncode in (0, -9, 130, -15), messages
            assert before.items() <= finished(out).items()
            if (out / "cells").is_dir():
                look_whole(out)
        assert without_times(table(out)) == uninterrupted[0], f"seed {SEED}, sweep {sweeps}"
        assert not list(out.rglob(".*"))
        shutil.rmtree(folder)


@pytest.mark.parametrize("trial", range(max(4, KILLS // 8)))
def test_spoiled_cells_are_found_and_run_again(world, tmp_path, uninterrupted, trial):
    """Cut short, or one bit changed, wherever it is: reading says so, and run makes that cell and
    no other again, saying so once."""
    config, out, chance = (
        long_config(world, tmp_path),
        tmp_path / "out",
        random.Random(SEED + trial),
    )
    swbench("run", config, "-q", check=0)
    before = finished(out)
    spoiled = chance.sample(sorted(before), 2)
    for name, cut in zip(spoiled, (True, False)):
        path = out / "cells" / name
        data = bytearray(path.read_bytes())
        at = chance.randrange(len(data))
        if cut:
            del data[at:]
        else:
            data[at] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
    read = swbench("export", out, check=2)
    assert any(name in read.stderr for name in spoiled) and len(read.stderr.splitlines()) == 1
    done = swbench("run", config, check=0)
    assert "2 cells done, 11 there already" in done.stderr
    assert (
        all(done.stderr.count(name) == 1 for name in spoiled) and done.stderr.count("damaged") == 2
    ), done.stderr
    assert {name for name, stamp in before.items() if finished(out)[name] != stamp} == set(spoiled)
    assert without_times(table(out)) == uninterrupted[0]


def test_a_disk_that_is_full_for_a_while(world, tmp_path, uninterrupted):
    """Writing fails past a size that some cells' files have: the run ends with code 3 and what
    fitted; with room again it goes on."""
    config, out = long_config(world, tmp_path, save=["selection"]), tmp_path / "out"

    def limited(size):
        def prepare():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        return prepare

    swbench("run", config, "--output", tmp_path / "peace", "-q", check=0)
    sizes = sorted(path.stat().st_size for path in (tmp_path / "peace" / "cells").iterdir())
    done = swbench("run", config, "-q", preexec_fn=limited(sizes[-1] - 1))
    assert done.returncode == 3 and "cannot write" in done.stderr, done.stderr
    kept = finished(out)
    look_whole(out)
    assert 0 < len(kept) < 13 and not list(out.rglob(".*"))
    swbench("run", config, "-q", check=0)
    assert kept.items() <= finished(out).items()
    assert without_times(table(out)) == without_times(table(tmp_path / "peace"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_small_file_system(world, tmp_path):
    """The same on a tmpfs that is really full, where even the lock file of a claim may not find
    room."""
    config, disk = long_config(world, tmp_path, save=["selection", "output"]), tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk)], capture_output=True
    ).returncode:
        pytest.skip("no mount here")
    try:
        out = disk / "out"
        done = swbench("run", config, "-q", "--output", out)
        assert done.returncode == 3 and "No space left" in done.stderr, done.stderr
        kept = finished(out)
        look_whole(out)
        assert 0 < len(kept) < 13 and not list(out.rglob(".*"))
        subprocess.run(["mount", "-o", "remount,size=40m", str(disk)], check=True)
        swbench("run", config, "-q", "--output", out, check=0)
        assert kept.items() <= finished(out).items() and len(finished(out)) == 13
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        done = swbench("run", config, "-q", "--output", out, "--fresh", check=2)
        assert len(done.stderr.splitlines()) == 1 and "cannot write" in done.stderr, done.stderr
        swbench("export", out, check=0)
    finally:
        subprocess.run(["umount", str(disk)], check=False)
