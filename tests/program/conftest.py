"""One tiny model with its datasets, and one finished run of it, for all tests that only look."""

import os
import pathlib
import subprocess
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's products here are small

import pytest
import yaml

import tiny

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM = os.environ.get("SWBENCH", str(HERE.parents[1] / "build" / "release" / "bin" / "swbench"))
TIMES = {
    "prefill_attention_ms",
    "prefill_select_ms",
    "decode_attention_us",
    "decode_select_us",
    "ttft_ms",
    "tpot_ms",
    "effective_tflops",
    "effective_gbps",
}
EASY = [
    "dense",
    {"name": "oracle", "params": {"block_size": 16}},
    {"name": "random", "params": {"block_size": 16}},
]


class World:
    """A folder with a model and its datasets, and the program run in it."""

    def __init__(self, root):
        self.root = root
        self.model = tiny.write_model(root / "models" / tiny.NAME)
        self.data = root / "prepared"
        tiny.write_tasks(self.data, self.model)

    def config(self, path, **changes):
        """Writes a config: the usual one with other values for some keys (None leaves a key
        out)."""
        usual = {
            "version": 1,
            "name": "tiny",
            "seed": 1,
            "backend": "cpu",
            "threads": 1,
            "output": str(pathlib.Path(path).parent / "out"),
            "workloads": [
                {
                    "kind": "task",
                    "model": str(self.model),
                    "data": str(self.data),
                    "tasks": ["ppl_tiny"],
                    "samples": 2,
                }
            ],
            "axes": {"context": tiny.CONTEXT, "density": 0.5, "phase": "prefill"},
            "methods": EASY,
            "dense_layers": 0,
            "measure": ["accuracy", "recovery", "output_error"],
        }
        config = {key: value for key, value in {**usual, **changes}.items() if value is not None}
        pathlib.Path(path).write_text(yaml.safe_dump(config, sort_keys=False))
        return pathlib.Path(path)


def environment(**changes):
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SWBENCH")}
    return {**kept, "SWBENCH_THREADS": "1", "NO_COLOR": "1", **changes}


def swbench(*args, check=None, env=None, **options):
    """Runs the program. check: the exit code that is expected."""
    done = subprocess.run(
        [PROGRAM, *map(str, args)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        env=environment(**(env or {})),
        stdin=subprocess.DEVNULL,
        **options,
    )
    if check is not None:
        assert done.returncode == check, (
            f"{args}: exit {done.returncode}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
        )
    return done


@pytest.fixture(scope="session", autouse=True)
def program():
    if not os.path.isfile(PROGRAM):
        pytest.fail(f"no program at {PROGRAM}: build it, or set SWBENCH")


@pytest.fixture(scope="session")
def world(tmp_path_factory, program):
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def uninterrupted(world, tmp_path_factory):
    """The table of a long run that nothing stops, and how long the run took."""
    from long_runs import long_config, table, without_times  # they run the program by this file

    folder = tmp_path_factory.mktemp("whole")
    config = long_config(world, folder)
    begin = time.monotonic()
    swbench("run", config, "-q", check=0)
    return without_times(table(folder / "out")), time.monotonic() - begin
