"""Fetches the text of ppl_book and others: texts.py --help says which."""

from swbench_data import cli

if __name__ == "__main__":
    cli.run("texts")
