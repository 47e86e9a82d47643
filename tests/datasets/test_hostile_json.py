"""Benchmark files spoiled at random: in their bytes, and in their values as JSON. Each is refused
in one line that names the file, or gives texts that a tokenizer and HDF5 take.
SWBENCH_HOSTILE_CASES and SWBENCH_HOSTILE_SEED make it longer and other."""

import json
import os
import random

import pytest

from swbench_data.cli import InputError
from swbench_data.tasks import MATERIALS, TASKS, longbench
from test_prepare_longbench import row
from test_prepare_qa import hotpotqa, squad

CASES = int(os.environ.get("SWBENCH_HOSTILE_CASES", "300"))
SEED = int(os.environ.get("SWBENCH_HOSTILE_SEED", "3"))
BYTES = (
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\\ud800",
    b"\\u0000",
    b"\n",
    b"\r",
    b"\x1b[31m",
    b"\xe2\x80\xa8",
    b'"',
    b"[" * 5000,
    b"{",
    b"}",
    b",",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b"null",
    b"true",
    b'"context": 1,',
    b'"_id": "x",',
    b'"data": [],',
)
VALUES = (
    None,
    True,
    0,
    -1.5,
    float("nan"),
    float("inf"),
    10**4000,
    "",
    "\0",
    "\ud800",
    "a\x1b[2Jb",
    "x" * 5000,
    [],
    {},
    [[]],
    [None],
    ["a", 1],
    {"text": 1},
    [["t"]],
)


def long_bench(name):
    def write(lines):
        return "".join(
            json.dumps(line) + "\n" for line in (lines if isinstance(lines, list) else [lines])
        )

    return (
        f"{name}.jsonl",
        [row(name, i) for i in range(3)],
        write,
        TASKS[f"longbench_{name}"].material.read,
    )


def document(name, value):
    return f"{name}.json", value, json.dumps, MATERIALS[name].read


KINDS = {
    "trec": long_bench("trec"),
    "passage_retrieval_en": long_bench("passage_retrieval_en"),
    "qasper": long_bench("qasper"),
    "squad": document("squad", squad(2, 2)),
    "hotpotqa": document("hotpotqa", hotpotqa(3)),
}


def spoil_bytes(chance, data):
    data = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                data[at:at] = chance.choice(BYTES)
            case 2:
                del data[at : at + chance.choice((1, 10, len(data)))]
            case 3:
                data[at:at] = data[chance.randrange(len(data) + 1) :][:40]
    return bytes(data)


def spoil_value(chance, value):
    """A copy with one value in it replaced, left out or put in."""
    if not value or not isinstance(value, (list, dict)) or chance.random() < 0.1:
        return chance.choice(VALUES)
    copy = value.copy()
    key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
    if chance.random() < 0.1:
        del copy[key]
    else:
        copy[key] = spoil_value(chance, value[key])
    return copy


def texts(material):
    """Everything that goes on to the tokenizer or the dataset."""
    if isinstance(material, longbench.Rows):
        for one in material.rows:
            yield from (one.context, one.input, one.id, *one.answers)
        yield from material.classes
    else:
        yield from material.documents
        for one in material.questions:
            yield from (one.text, one.id, *one.answers)


@pytest.mark.parametrize("kind", list(KINDS))
def test_refused_in_one_line_or_read(tmp_path, kind):
    name, value, write, read = KINDS[kind]
    path, chance, outcomes = tmp_path / name, random.Random(f"{SEED} {kind}"), {True: 0, False: 0}
    for case in range(CASES):
        data = (
            write(spoil_value(chance, value)).encode()
            if case % 2
            else spoil_bytes(chance, write(value).encode())
        )
        path.write_bytes(data)
        try:
            for text in texts(read(path)):
                assert "\0" not in text, (case, text)
                text.encode()
            outcomes[True] += 1
        except InputError as error:
            message = str(error)
            assert (
                message.startswith(str(path))
                and message.isprintable()
                and len(message) < len(str(path)) + 200
            ), (case, message)
            outcomes[False] += 1
        except Exception as error:
            raise AssertionError(f"case {case} of seed {SEED}: {data[:400]}") from error
    assert outcomes[False] > CASES / 4 and outcomes[True]
