"""Makes the datasets that a config's task workloads need, and leaves those that are there already.

    prepare.py CONFIG.yaml …
    prepare.py --model NAME_OR_PATH --task T[,T] --context N[,N] [--samples K] [--seed S]
    prepare.py --list

Writes datasets/prepared/MODEL/TASK-CONTEXT-sSEED-nSAMPLES.h5; see datasets/README.md for the
format.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
import yaml

from swbench_data import cli
from swbench_data.cli import InputError
from swbench_data.model_folder import find_model
from swbench_data.tasks import MATERIALS, TASKS
from swbench_data.tasks.task import Job, Sample, Task

# A change of what any task generates raises it, so that datasets are made anew
# (tests/datasets/test_current.py).
GENERATOR_VERSION = "1"
DEFAULT_SAMPLES, DEFAULT_SEED = 8, 1

Wanted = tuple[str, Task, int, int, int]  # model, task, context, samples, seed


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="prepare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="*", type=Path, metavar="CONFIG.yaml")
    parser.add_argument("--model", help="folder under datasets/models, or a path")
    parser.add_argument("--task", help="one or more of those that --list prints")
    parser.add_argument("--context", help="tokens of prompt and answer together")
    parser.add_argument("--samples", type=int, default=DEFAULT_SAMPLES)
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED)
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="the prompts that `swbench calibrate` looks at: those of the next seed",
    )
    for material in MATERIALS.values():
        place = material.place(None)
        default = place.parent if place and material.in_folder else place
        parser.add_argument(
            f"--{material.option}",
            type=Path,
            metavar="FOLDER" if material.in_folder else "FILE",
            help=material.about + (f" (default {from_root(default)})" if default else ""),
        )
    parser.add_argument("--list", action="store_true", help="prints the tasks and what they need")
    parser.add_argument("--out", type=Path, default=cli.DATASETS / "prepared")
    args = parser.parse_args()
    if args.list:
        list_tasks()
        return 0
    by_hand = (args.model, args.task, args.context)
    if bool(args.config) == any(by_hand) or (any(by_hand) and not all(by_hand)):
        parser.error("expected either config files, or --model, --task and --context")

    wanted: list[Wanted] = []  # in order, each once
    for path in args.config:
        wanted += from_config(path)
    if args.model:
        wanted += product(
            "--", args.model, args.task.split(","), args.context.split(","), args.samples, args.seed
        )
    if args.held_out:
        wanted = [(*rest, seed + 1) for *rest, seed in wanted]
    models, materials, made = {}, Materials(args), 0
    for name, task, context, samples, seed in dict.fromkeys(wanted):
        if name not in models:
            models[name] = find_model(name)
        model = models[name]
        if context > model.max_context:
            raise InputError(
                f"context {context} is longer than {model.name} can take, "
                f"expected at most {model.max_context}"
            )
        if materials.has(task):
            prepare(Job(task, model, context, samples, seed, materials.get(task)), args.out)
            made += 1
    return 0 if made or not wanted else 2


def list_tasks() -> None:
    print(f"{'task':<31}{'score':<16}{'new tokens':<12}needs")
    for task in TASKS.values():
        place = task.material and task.material.place(None)
        needs = from_root(place) if place else task.material and task.material.about
        new_tokens = task.max_new_tokens or "-"
        print(f"{task.name:<31}{task.score:<16}{new_tokens:<12}{needs or '-'}".rstrip())


def from_config(path: Path) -> list[Wanted]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8, expected a YAML config") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise InputError(
            f"{path}{line}: {getattr(error, 'problem', None) or error}, expected YAML"
        ) from None
    if not isinstance(document, dict) or not isinstance(document.get("workloads"), list):
        raise InputError(f"{path}: no list of workloads, expected a swbench config")
    wanted = []
    for index, workload in enumerate(document["workloads"]):
        if not isinstance(workload, dict) or workload.get("kind") != "task":
            continue
        where = f"{path}: workloads[{index}]."
        if not isinstance(workload.get("model"), str):
            raise InputError(
                f"{where}model is {workload.get('model')!r}, expected a model's name or path"
            )
        axes = document.get("axes")
        contexts = workload.get("context", axes.get("context") if isinstance(axes, dict) else None)
        if contexts is None:
            raise InputError(f"{path}: axes.context is missing, expected a list of token counts")
        wanted += product(
            where,
            workload["model"],
            as_list(workload.get("tasks")),
            as_list(contexts),
            workload.get("samples", DEFAULT_SAMPLES),
            document.get("seed", DEFAULT_SEED),
        )
    return wanted


def as_list(value: object) -> list:
    return value if isinstance(value, list) else [] if value is None else [value]


def product(
    where: str, model: str, tasks: list, contexts: list, samples: object, seed: object
) -> list[Wanted]:
    """The datasets of one workload, checked."""
    if not tasks:
        raise InputError(
            f"{where}tasks is missing, expected a list of tasks; prepare.py --list names them"
        )
    for name in tasks:
        if name not in TASKS:
            raise InputError(
                f"{where}tasks: {name!r} is unknown, expected one that prepare.py --list names"
                f"{cli.did_you_mean(name, TASKS)}"
            )
    return [
        (
            model,
            TASKS[name],
            whole(context, f"{where}context", 2),
            whole(samples, f"{where}samples", 1),
            whole(seed, f"{where}seed", 0),
        )
        for name in tasks
        for context in contexts
    ]


def whole(value: object, where: str, least: int) -> int:
    try:
        if isinstance(value, (bool, float)) or not least <= int(value) < 2**31:
            raise ValueError
    except (TypeError, ValueError):
        raise InputError(
            f"{where} is {value!r}, expected a whole number of at least {least}"
        ) from None
    return int(value)


class Materials:
    """What tasks are made from, each read once and when it is first wanted."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.named = {option: getattr(args, option) for option in MATERIALS}
        self.read, self.absent = {}, set()

    def has(self, task: Task) -> bool:
        """False, and said once, where a published file is not there; a file or folder that the user
        named has to be."""
        material = task.material
        path = material and material.place(self.named[material.option])
        if path is None or path.is_file():
            return True
        named = self.named[material.option]
        if named and not named.exists():
            kind = "folder" if material.in_folder else "file"
            raise InputError(f"--{material.option} {named}: not found, expected a {kind}")
        if task.name not in self.absent:
            print(
                f"prepare: {task.name} is skipped: {path} is not there; put the published file "
                f"there or name it with --{material.option}",
                file=sys.stderr,
            )
            self.absent.add(task.name)
        return False

    def get(self, task: Task) -> object:
        """What job.material is."""
        if task.material is None:
            return None
        path = task.material.place(self.named[task.material.option])
        key = path or task.material.option
        if key not in self.read:
            self.read[key] = task.material.read(path)
        return self.read[key]


def from_root(path: Path) -> Path:
    """As one who stands in the repository would write it."""
    return path.relative_to(cli.ROOT) if path.is_relative_to(cli.ROOT) else path


def prepare(job: Job, out: Path) -> None:
    path = out / job.model.name / f"{job.task.name}-{job.context}-s{job.seed}-n{job.samples}.h5"
    attributes = root_attributes(job)
    if is_current(path, attributes, job.model.stop_ids):
        print(f"prepare: {path} is up to date", file=sys.stderr)
        return
    samples = job.task.make(job)
    with cli.atomic_file(path) as partial:
        write(partial, job, samples, attributes)
    print(f"prepare: wrote {path}", file=sys.stderr)


def root_attributes(job: Job) -> dict:
    """Everything that decides the samples is here, but for the stop ids, which are a list of their
    own: with equal ones a file is current."""
    return {
        "format": "swbench-dataset",
        "version": 2,
        "task": job.task.name,
        "model": job.model.name,
        "tokenizer_sha256": job.model.tokenizer_sha256,
        "tokenizer_json_sha256": job.model.tokenizer_json_sha256,
        "special_ids": json.dumps(job.model.special_ids, sort_keys=True),
        "special_tokens": json.dumps(job.model.tokens, sort_keys=True) if job.chat else "",
        "chat_template_sha256": cli.sha256_bytes(job.model.template.encode()) if job.chat else "",
        "vocab_size": job.model.vocab_size,
        "context": job.context,
        "seed": job.seed,
        "n_samples": job.samples,
        "score": job.task.score,
        "first_line": np.uint8(job.task.first_line),
        "lengths": "exact" if job.task.exact else "at_most",
        "max_new_tokens": job.task.max_new_tokens,
        "scored_tokens": job.scored_tokens,
        "text_source": job.material.source if job.material else "",
        "text_sha256": job.material.sha256 if job.material else "",
        "generator_version": GENERATOR_VERSION,
    }


def is_current(path: Path, attributes: dict, stop_ids: list[int]) -> bool:
    try:
        with h5py.File(path, "r") as file:
            return dict(file.attrs) == attributes and file["stop_ids"][:].tolist() == stop_ids
    except (OSError, KeyError):
        return False  # not there, or not a whole dataset


def write(path: Path, job: Job, samples: list[Sample], attributes: dict) -> None:
    text = h5py.string_dtype("utf-8")
    # The oldest layout that holds this, without time stamps: any HDF5 reads it, and equal input
    # gives equal bytes.
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        for name, value in attributes.items():
            file.attrs[name] = value if isinstance(value, (str, np.uint8)) else np.int64(value)

        def put(name, values, dtype, units, long_name):
            dataset = file.create_dataset(name, data=np.asarray(values, dtype=dtype), dtype=dtype)
            dataset.attrs["units"], dataset.attrs["long_name"] = units, long_name

        put(
            "ids",
            np.concatenate([sample.ids for sample in samples]),
            np.int32,
            "token id",
            "prompt tokens of all samples, one after the other",
        )
        put(
            "offsets",
            starts(sample.ids for sample in samples),
            np.int64,
            "token",
            "where each sample begins in ids, and the end",
        )
        put(
            "references",
            [reference for sample in samples for reference in sample.references],
            text,
            "text",
            "expected answers of all samples, one after the other",
        )
        put(
            "reference_offsets",
            starts(sample.references for sample in samples),
            np.int64,
            "reference",
            "where each sample begins in references, and the end",
        )
        put(
            "depth",
            [sample.depth for sample in samples],
            np.float64,
            "1",
            "share of the haystack before the needle, NaN where there is none",
        )
        put(
            "origin",
            [sample.origin for sample in samples],
            text,
            "text",
            "where in the text each sample begins, as title+characters; empty if generated",
        )
        if any(sample.hops for sample in samples):
            put(
                "hops",
                [span for sample in samples for span in sample.hops],
                np.int64,
                "token",
                "tokens [first, last) of the statements that the answer follows from, in that "
                "order, all samples one after the other",
            )
            put(
                "hop_offsets",
                starts(sample.hops for sample in samples),
                np.int64,
                "statement",
                "where each sample begins in hops, and the end",
            )
        put("stop_ids", job.model.stop_ids, np.int32, "token id", "tokens that end an answer")
        if job.task.score == "classification":
            put("classes", job.material.classes, text, "text", "the answers that are possible")


def starts(lists: Iterable[list]) -> np.ndarray:
    return np.cumsum([0] + [len(values) for values in lists])
