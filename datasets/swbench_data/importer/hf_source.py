"""A Hugging Face-style folder as a source: config.json, safetensors (one file or shards),
tokenizer.json."""

import json

import numpy as np
import yaml

from swbench_data.cli import InputError
from swbench_data.importer import architectures, model_config, vocabulary
from swbench_data.importer.gguf_source import spdx
from swbench_data.importer.weights import SafetensorsFile

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
OPTIONAL = ("tokenizer_config.json", "generation_config.json")


class HFSource:
    def __init__(self, folder):
        self.folder = folder
        self.where = folder.resolve().name
        config = read_json(folder / "config.json")
        where = "config.json"
        self.row = architectures.find("model_type", config.get("model_type"), where)
        self.config = model_config.complete(config, where, self.row)
        self.specs = architectures.tensor_specs(self.row, self.config)
        if not (folder / "tokenizer.json").is_file():
            raise InputError(
                f"{folder}: no tokenizer.json, expected a folder with config.json, "
                f"safetensors and tokenizer.json"
            )
        self.tokenizer_config = read_json(folder / "tokenizer_config.json", optional=True)
        self.generation_config = read_json(folder / "generation_config.json", optional=True)
        self.open_weights()
        self.check_tied()
        self.complete_ids()

    def open_weights(self):
        index_path = self.folder / INDEX
        if index_path.is_file():
            place = read_json(index_path).get("weight_map")
            if not isinstance(place, dict) or not all(
                isinstance(file, str) and "/" not in file and "\\" not in file
                for file in place.values()
            ):
                raise InputError(
                    f"{INDEX}: no usable weight_map, expected tensor name -> file name in the "
                    "folder"
                )
            self.weight_files = sorted(set(place.values()))
        elif (self.folder / SINGLE).is_file():
            self.weight_files = [SINGLE]
        else:
            raise InputError(
                f"{self.folder}: neither {SINGLE} nor {INDEX} found, expected safetensors weights"
            )
        self.shard_of, shapes, self.dtypes = {}, {}, set()
        for name in self.weight_files:
            if not (self.folder / name).is_file():
                raise InputError(f"{INDEX}: file {name} is not there, expected it in {self.folder}")
            shard = SafetensorsFile(self.folder / name)
            self.dtypes |= shard.dtypes()
            for tensor, shape in shard.shapes.items():
                self.shard_of[tensor], shapes[tensor] = shard, shape
        tied = self.config["tie_word_embeddings"]
        architectures.check_tensors(
            self.specs,
            shapes,
            lambda spec: spec.hf_name,
            # A tied head may be stored all the same; old checkpoints store RoPE's constants.
            lambda name: name.endswith("rotary_emb.inv_freq")
            or (tied and name == "lm_head.weight"),
            self.weight_files[0] if len(self.weight_files) == 1 else INDEX,
        )

    def complete_ids(self):
        """Chat models name more stop tokens in generation_config.json than in config.json: all of
        both count."""
        self.config["eos_token_id"] = model_config.stop_ids(
            self.config["eos_token_id"], self.generation_config.get("eos_token_id")
        )
        model_config.complete(self.config, "generation_config.json", self.row)

    def check_tied(self):
        """A tied head that is stored all the same is the embedding: Hugging Face would not tie
        another."""
        head, embedding = "lm_head.weight", "model.embed_tokens.weight"
        if (
            self.config["tie_word_embeddings"]
            and head in self.shard_of
            and not np.array_equal(
                self.shard_of[head].read_f32(head), self.shard_of[embedding].read_f32(embedding)
            )
        ):
            raise InputError(
                f"config.json: tie_word_embeddings is true, but {head} differs from {embedding}, "
                f"expected false there, or no such tensor"
            )

    def default_dtype(self):
        return self.dtypes.copy().pop() if len(self.dtypes) == 1 else "f32"

    def read_f32(self, spec):
        return self.shard_of[spec.hf_name].read_f32(spec.hf_name)

    def tokenizer(self):
        return vocabulary.load_tokenizer(self.folder / "tokenizer.json")

    def chat_template(self):
        path = self.folder / "chat_template.jinja"
        if path.is_file():
            return path.read_text(encoding="utf-8")
        template = self.tokenizer_config.get("chat_template")
        if isinstance(template, list):  # several named templates
            named = {
                entry.get("name"): entry.get("template")
                for entry in template
                if isinstance(entry, dict)
            }
            template = named.get("default")
        return template if isinstance(template, str) else None

    def licence(self):
        readme = self.folder / "README.md"
        if readme.is_file():
            text = readme.read_text(encoding="utf-8", errors="replace")
            if text.startswith("---\n"):
                try:
                    front = yaml.safe_load(text[4:].split("\n---", 1)[0])
                except yaml.YAMLError:
                    front = None
                if isinstance(front, dict) and front.get("license"):
                    return spdx(front["license"])
        for name in ("LICENSE", "LICENSE.txt", "LICENSE.md"):
            if (self.folder / name).is_file():
                start = (self.folder / name).read_text(encoding="utf-8", errors="replace")[:400]
                for title, identifier in (("Apache License", "Apache-2.0"), ("MIT License", "MIT")):
                    if title in start:
                        return identifier
        return "unknown"


def read_json(path, optional=False):
    if not path.is_file():
        if optional:
            return {}
        raise InputError(
            f"{path.parent}: no {path.name}, expected a folder with config.json, "
            f"safetensors and tokenizer.json"
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name}: {error}, expected JSON") from None
    if not isinstance(document, dict):
        raise InputError(f"{path.name}: a JSON {type(document).__name__}, expected an object")
    return document
