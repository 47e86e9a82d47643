"""Fetches long public-domain prose: the six novels of Jane Austen, from the Debian package
r-cran-janeaustenr.

    texts.py                writes datasets/texts/austen.txt and austen.json, once: they are kept

The package is downloaded and unpacked, not installed.  `prepare.py` calls this by itself.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from swbench_data import cli, rdata
from swbench_data.cli import InputError

PACKAGE = "r-cran-janeaustenr"
DATABASE = "usr/lib/R/site-library/janeaustenr/data/Rdata"
# In the order of their first publication.
NOVELS = {
    "sensesensibility": "Sense and Sensibility",
    "prideprejudice": "Pride and Prejudice",
    "mansfieldpark": "Mansfield Park",
    "emma": "Emma",
    "northangerabbey": "Northanger Abbey",
    "persuasion": "Persuasion",
}


def austen(folder=cli.DATASETS / "texts"):
    """Path of austen.txt, fetched if it is not there yet."""
    text_path, facts_path = folder / "austen.txt", folder / "austen.json"
    if is_intact(text_path, facts_path):
        return text_path
    deb = find_package(folder)
    with tempfile.TemporaryDirectory() as unpacked:
        if subprocess.run(["dpkg-deb", "-x", deb, unpacked], capture_output=True).returncode:
            deb.unlink()
            raise InputError(
                f"{deb.name}: dpkg-deb could not unpack it (now removed), expected to try again"
            )
        vectors = rdata.character_vectors(Path(unpacked) / DATABASE)
    missing = [name for name in NOVELS if name not in vectors]
    if missing:
        raise InputError(f"{deb.name}: novel {missing[0]} is not in it, expected the six novels")

    text, novels = "", []
    for name, title in NOVELS.items():
        body = reflow(vectors[name]) + "\n\n"
        novels.append({"title": title, "offset": len(text), "length": len(body)})
        text += body
    data = text.encode()
    facts = {
        "title": "The six novels of Jane Austen",
        "source": f"Debian package {PACKAGE} {deb.name.split('_')[1]} (texts of Project Gutenberg)",
        "licence": "texts: public domain; their collection: MIT",
        "sha256": cli.sha256_bytes(data),
        "unit_of_offsets": "characters",
        "novels": novels,
    }
    with cli.atomic_file(text_path) as partial:
        partial.write_bytes(data)
    with cli.atomic_file(facts_path) as partial:
        partial.write_text(json.dumps(facts, indent=2) + "\n")
    print(f"texts: wrote {text_path} ({len(data)} bytes)", file=sys.stderr)
    return text_path


def reflow(lines):
    """Paragraphs as one line each, with an empty line between: the line breaks are the printer's,
    not the author's."""
    paragraphs = re.split(r"\n\s*\n", "\n".join(line.strip() for line in lines))
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip())


def is_intact(text_path, facts_path):
    try:
        return json.loads(facts_path.read_text())["sha256"] == cli.sha256_file(text_path)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def find_package(folder):
    """The package file: one that lies in the folder already, else downloaded."""
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(folder.glob(f"{PACKAGE}_*.deb"))
    if found:
        return found[-1]
    advice = (
        f"put {PACKAGE}_*.deb (any Debian or Ubuntu mirror has it) into {folder}, "
        f"or give prepare.py a text of your own with --text FILE"
    )
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise InputError(f"no apt-get here to fetch {PACKAGE}; {advice}")
    # Downloaded to one side first: an interrupted download must not pass for a package.
    with tempfile.TemporaryDirectory(dir=folder) as partial:
        result = subprocess.run(
            ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", PACKAGE],
            cwd=partial,
            capture_output=True,
            text=True,
        )
        downloaded = list(Path(partial).glob("*.deb"))
        if result.returncode or not downloaded:
            reason = (result.stderr.strip().splitlines() or ["no package came"])[-1]
            raise InputError(f"apt-get download {PACKAGE} failed ({reason}); {advice}")
        return Path(shutil.move(downloaded[0], folder / downloaded[0].name))


def main():
    parser = argparse.ArgumentParser(
        prog="texts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    print(austen())
    return 0
