"""How often the gate cries wolf: pairs of runs of one program and one config, one right after the
other, each pair compared as a pull request is with its base. Only time and memory differ, so any
regression that compare reports is a false one. Not a part of `make test` or `make nightly`: it
wants a machine that does nothing else, for two minutes a pair.

usage: tests/gate/aa.py [PAIRS [CONFIG]]   (50, configs/ci.yaml)

Exit code 1: more than one false alarm in fifty; 4: the machine was too noisy to tell."""

import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("SWBENCH", str(ROOT / "build" / "release" / "bin" / "swbench"))
ALARMS = 1 / 50  # the share of pairs that may be called a regression
NOISY = 1 / 10  # the share that may be too noisy to be called anything


def call(*args, codes=(0,)):
    done = subprocess.run(
        [PROGRAM, *map(str, args)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode not in codes:
        sys.exit(
            f"aa: {' '.join(map(str, args))}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return done.stdout


def main(pairs=50, config="configs/ci.yaml"):
    verdicts, figures, noisy = collections.Counter(), collections.Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        base, new = pathlib.Path(folder) / "base", pathlib.Path(folder) / "new"
        for pair in range(1, pairs + 1):
            for out in (base, new):
                call("run", config, "--output", out, "--fresh", "-q")
            result = json.loads(call("compare", base, new, "--format", "json", codes=(0, 1)))
            verdicts[result["verdict"]] += 1
            noisy += result["too_noisy"]
            print(
                f"{pair}/{pairs}: {result['verdict']}, noise between cells "
                f"{100 * (result['noise'] or 0):.1f} %",
                flush=True,
            )
            for figure in result["figures"]:
                figures[figure["verdict"]] += 1
                print(
                    f"  {figure['verdict']}: {figure['cell']} {figure['metric']} {figure['base']} "
                    f"→ {figure['new']}, p {figure['p']}",
                    flush=True,
                )
    print(
        f"{pairs} pairs: {dict(verdicts)}; single figures: {dict(figures)}; too noisy to tell: "
        f"{noisy}"
    )
    return 1 if verdicts["worse"] > ALARMS * pairs else 4 if noisy > NOISY * pairs else 0


if __name__ == "__main__":
    sys.exit(main(*(kind(value) for kind, value in zip((int, str), sys.argv[1:]))))
