"""docs/formats.md against files that the program really writes: each names what the other has."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import tiny
from conftest import EASY, swbench

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "formats.md").read_text()
sys.path[:0] = [str(ROOT / "tests" / "datasets"), str(ROOT / "datasets")]

# What HDF5 itself keeps for dimension scales, and what the page says once for all datasets.
HDF5_OWN = {"CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST"}
OF_ALL_DATASETS = {"units", "long_name"}


# --- the page ------------------------------------------------------------------------------------


def section(title):
    """The text below a heading of the second level."""
    (text,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M)
    return text


def tables(text):
    """Each table as (cells of its heading, rows of cells)."""
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in block.splitlines()]
        rows = [[cell.strip() for cell in line] for line in lines]
        yield rows[0], rows[2:]


def names(cell):
    return set(re.findall(r"`([^`]+)`", cell))


def described(title):
    """{object: its attributes} of a section. A table either lists objects with their attributes,
    or the attributes of one object, which its heading names."""
    objects = {}
    for heading, rows in tables(section(title)):
        if heading[0] == "object":
            at = heading.index("attributes")
            for row in rows:
                (name,) = names(row[0])
                objects.setdefault(name, set()).update(names(row[at]))
        elif heading[0].startswith("attribute of"):
            (name,) = names(heading[0])
            for row in rows:
                objects.setdefault(name, set()).update(names(row[0]))
    return objects


def columns(title, heading):
    """The first cells of the table whose first heading this is."""
    (rows,) = [rows for head, rows in tables(section(title)) if head[0] == heading]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row[0])]


# --- files ---------------------------------------------------------------------------------------


def general(path):
    """A path with what differs from file to file replaced as the page does."""
    path = re.sub(r"layer_\d{3}\b", "layer_NNN", path)
    path = re.sub(
        r"^/(metrics|per_layer|per_layer_head|samples)/(?!predictions)(?!\w+_\d+$).+",
        r"/\1/<metric>",
        path,
    )
    return re.sub(r"\b(?:[a-z]+_)*[a-z]+_\d+$", "<axis>_<length>", path)


def own_attributes(item):
    """Those that the page lists: not HDF5's own, nor what all datasets have."""
    attributes = set(item.attrs) - HDF5_OWN
    if isinstance(item, h5py.Dataset):
        assert attributes >= OF_ALL_DATASETS, f"{item.file.filename}: {item.name}"
        attributes -= OF_ALL_DATASETS
    return attributes


def found(paths):
    """{object: its attributes} over files."""
    objects = {}

    def add(name, item):
        objects.setdefault(general("/" + name), set()).update(own_attributes(item))

    for path in paths:
        with h5py.File(path) as file:
            add("", file)
            file.visititems(add)
    return objects


@pytest.fixture(scope="module")
def results(world, tmp_path_factory):
    """A folder with cells of every kind: each workload and phase, saved lists with and without
    token masks, saved outputs, answers, a warning, a cell that was skipped."""
    folder = tmp_path_factory.mktemp("formats")
    saved = dict(
        measure=["accuracy", "recovery", "output_error", "latency"],
        save=["selection", "output"],
        timing={"warmup_ms": 0, "max_seconds": 0.01},
    )
    data = folder / "prepared"  # prompts with needles in known places
    tiny.write_tasks(data, world.model)
    tiny.write_dataset(
        tiny.dataset_path(data, "echo_tiny", 2),
        world.model,
        tiny.prompts(2),
        [["one", "two"], ["three"]],
        values={
            "depth": np.array([0.25, 0.75]),
            "hops": np.array([[0, 3], [4, 9], [1, 2]]),
            "hop_offsets": np.array([0, 2, 3]),
        },
    )
    bundle = tiny.write_bundle(folder / "bundle.h5", n=200, decode=3)
    task = {
        "kind": "task",
        "model": str(world.model),
        "data": str(data),
        "tasks": ["ppl_tiny", "echo_tiny"],
        "samples": 2,
    }
    masks = [
        {"name": "minference", "params": {"block_size": 16, "form": ["lines", "kernel"],
                                          "token_mask": True, "vertical_size": 8,
                                          "slash_size": 8}},
        {"name": "moba", "params": {"block_size": 16, "form": "token", "topk": 2}},
        {"name": "dense", "params": {"kernel": "library"}},  # skipped on a CPU
    ]  # fmt: skip
    shares = [{"name": "sketchwalk", "params": {"block_size": 16, "variant": "icml"}}]
    tensors = {"kind": "tensors", "path": str(bundle)}
    configs = [
        dict(workloads=[task], axes={"context": tiny.CONTEXT, "density": [0.02, 0.5],
                                     "phase": ["prefill", "decode"]}, methods=EASY),
        dict(workloads=[tensors], axes={"density": 0.5, "phase": "both"}, methods=EASY),
        dict(workloads=[tensors], axes={"phase": "prefill"}, methods=masks, budget="native"),
        dict(workloads=[tensors], axes={"phase": "both"}, methods=shares, budget="native"),
    ]  # fmt: skip
    for number, config in enumerate(configs):
        path = world.config(folder / f"{number}.yaml", **saved, **config)
        swbench("run", path, "--output", folder / "out", "-q", check=0)
    return folder / "out"


def test_cell(results):
    named = described("Result cell")
    # No method keeps single keys in decode today; tests/harness/run/test_step_lists.c makes them.
    del named["/decode/layer_NNN/selection/keys"]
    assert found((results / "cells").glob("*.h5")) == named


def test_every_metric_of_a_cell_is_one_that_help_names(results):
    """The page says <metric>: these are their names."""
    known = {line.split()[0] for line in swbench("help", "metrics").stdout.splitlines()[1:]}
    for path in (results / "cells").glob("*.h5"):
        with h5py.File(path) as file:
            for group in ("metrics", "per_layer", "per_layer_head"):
                assert set(file.get(group, ())) <= known


def test_tidy_table(results):
    named = columns("Tidy table", "column")
    header = next(csv.reader(io.StringIO(swbench("export", results, check=0).stdout)))
    assert header == named
    with h5py.File(results / "results.h5") as file:
        index = sorted([*named, "label"])  # the page says so below its table
        assert [c for c in file["tidy"] if not c.startswith("row_")] == index
        assert set(file) == {"cells", "tidy"}


def test_tensor_bundle(tmp_path):
    """The page's own snippet writes a bundle that the program takes."""
    (code,) = re.findall(r"```python\n(.*?)```", section("Tensor bundle"), re.S)
    rng = np.random.default_rng(1)
    q, k, v = (
        [rng.standard_normal((40, heads, 16), np.float32) for _ in range(2)] for heads in (4, 2, 2)
    )
    path = tmp_path / "mine.h5"
    exec(code.replace("mine.h5", str(path)), {"h5py": h5py, "q": q, "k": k, "v": v})
    swbench("validate", path, check=0)
    described_objects = described("Tensor bundle")
    written = bundle_objects(path)
    assert written == {o: a for o, a in described_objects.items() if not o.startswith("/decode")}
    both = tiny.write_bundle(tmp_path / "both.h5", decode=2)
    swbench("validate", both, check=0)
    assert bundle_objects(both) == described_objects


def bundle_objects(path):
    objects = {}
    with h5py.File(path) as file:
        objects["/"] = set(file.attrs)
        file.visititems(lambda name, item: objects.update({general("/" + name): set(item.attrs)}))
    return objects


def test_bundle_needs_every_attribute(tmp_path):
    for name in described("Tensor bundle")["/"]:
        path = tiny.write_bundle(tmp_path / "less.h5", attributes={name: None})
        done = swbench("validate", path)
        assert done.returncode == 2 and name in done.stdout + done.stderr


def test_dataset(tmp_path):
    from tiny_models import write_gguf

    def call(program, *arguments):
        argv = [sys.executable, ROOT / "datasets" / program, *arguments]
        done = subprocess.run([*map(str, argv)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    call("import_model.py", write_gguf(tmp_path / "tiny.gguf"), "--out", tmp_path / "models")
    model = tmp_path / "models" / "tiny"
    benchmark = tmp_path / "longbench"
    benchmark.mkdir()
    row = {"input": "i", "context": "c", "answers": ["City"], "all_classes": ["Animal", "City"]}
    rows = [
        {**row, "length": 3, "dataset": "trec", "language": "en", "_id": f"{i}"} for i in (0, 1)
    ]
    (benchmark / "trec.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = tmp_path / "text.txt"
    text.write_text("They took some of them, and went home; it rained. " * 200)
    paths = []
    for task, context in (("niah_single_1", 1200), ("longbench_trec", 1200), ("chain_1", 4000)):
        options = {"model": model, "task": task, "context": context, "samples": 2, "text": text}
        options |= {"longbench": benchmark, "out": tmp_path / task}
        call("prepare.py", *(w for name, value in options.items() for w in (f"--{name}", value)))
        paths += (tmp_path / task).rglob("*.h5")
    for path in paths:
        swbench("validate", path, check=0)
    assert len(paths) == 3
    assert found(paths) == described("Dataset")


def keys(value, prefix=""):
    """Names of a JSON object's members, those of lists' entries as name[].member."""
    for name, member in value.items():
        yield prefix + name
        if isinstance(member, list):
            for entry in member:
                yield from keys(entry, f"{prefix}{name}[].")


def test_calibration_file(world, tmp_path):
    config = world.config(
        tmp_path / "calibrated.yaml",
        workloads=[{"kind": "synthetic", "shape": "smollm2-135m", "layers": 2, "context": 256}],
        axes={"density": 0.5, "phase": "prefill"},
        methods=[{"name": "xattention", "params": {"block_size": 16}}],
        budget="calibrated",
        calibration=str(tmp_path / "thresholds.json"),
        measure=["recovery"],
    )
    swbench("calibrate", config, "-q", check=0)
    written = json.loads((tmp_path / "thresholds.json").read_text())
    assert set(keys(written)) == set(columns("Calibration file", "key"))
