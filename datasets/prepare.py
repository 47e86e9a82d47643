"""Makes the datasets that a config's task workloads need: prepare.py --help says how."""

from swbench_data import cli

if __name__ == "__main__":
    cli.run("prepare")
