"""Imports a model into datasets/models: import_model.py --help says how."""

from swbench_data import cli

if __name__ == "__main__":
    cli.run("import_model")
