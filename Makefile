# What a person types here: each target makes .venv when it is missing and installs nothing twice.

.DEFAULT_GOAL := install
.PHONY: install demo test test-all test-fairseq lint bench clean

# The first of these that is Python 3.11 to 3.14 and can make environments is taken.
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
STAMP := .venv/.installed
# fairseq's packages do not go with all of ours: an environment of its own.
FAIRSEQ_STAMP := .venv-fairseq/.installed
$(STAMP): EXTRAS := engine,service,dev
$(FAIRSEQ_STAMP): EXTRAS := engine,dev,fairseq
# All that run in .venv.
BENCHMARKS ?= $(sort $(filter-out benchmarks/fairseq_transformer.py,$(wildcard benchmarks/*.py)))
# Small networks on few cores: threads that wait for each other cost more than they bring.
ONE_THREAD := OMP_NUM_THREADS=1
# Tests run in so many processes, a file's in one of them, as they share what they set up; in the
# files' order, else those of few tests and long ones come last, one process waiting for the other.
TEST_PROCESSES ?= 2
PYTEST := $(ONE_THREAD) .venv/bin/python -m pytest -n $(TEST_PROCESSES) --dist loadfile \
	--no-loadscope-reorder

install: $(STAMP)

# The stamp is there exactly while the environment is whole: it goes before anything is changed and
# comes back at the end, with the time of the start, so that an edit meanwhile is not missed. What
# an interrupted installation left behind is never built upon.
$(STAMP) $(FAIRSEQ_STAMP): pyproject.toml constraints.txt
	@if [ ! -e $@ ]; then \
		python=; for candidate in $(PYTHON); do \
			if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' \
				>/dev/null 2>&1; then python=$$candidate; break; fi; \
		done; \
		if [ -z "$$python" ]; then \
			echo 'make: no Python 3.11 to 3.14 with the module venv among: $(PYTHON)' \
				'(Debian: apt-get install python3-venv; else set PYTHON=/path/to/python)' >&2; \
			exit 1; \
		fi; \
		echo "Making $(@D) with $$("$$python" --version)"; \
		"$$python" -m venv --clear $(@D) || exit 1; \
	fi
	@rm -f $@ && touch $(@D)/.installing
	@echo 'Installing into $(@D) (a few minutes, 7 GB, the first time)'
	@$(@D)/bin/python -m pip install --quiet --no-input --disable-pip-version-check \
		-e '.[$(EXTRAS)]' -c constraints.txt
	@mv $(@D)/.installing $@

demo: $(STAMP)
	.venv/bin/nas search search_spaces/searches/digits_demo.yaml

test: $(STAMP)
	$(PYTEST)

test-all: $(STAMP)
	$(PYTEST) -m 'not gpu'

test-fairseq: $(FAIRSEQ_STAMP)
	$(ONE_THREAD) .venv-fairseq/bin/python -m pytest -m fairseq

lint: $(STAMP)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

bench: $(STAMP)
	@failed=; for script in $(BENCHMARKS); do \
		echo "== $$script"; .venv/bin/python "$$script" || failed="$$failed $$script"; \
	done; \
	if [ -n "$$failed" ]; then echo "did not run to the end:$$failed" >&2; exit 1; fi

clean:
	rm -rf .venv .venv-fairseq .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
