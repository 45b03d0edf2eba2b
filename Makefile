# The commands of this project, and nothing else: CI calls only these.
# Everything is built inside this folder: .venv, .venvs, target, docs/_build.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
# Two cargo or pip runs at once would wait for each other's locks, or overwrite each other's work.
.NOTPARALLEL:
.SUFFIXES:

# The Python that builds and runs the demo: python3, if it is new enough.
find_python = for p in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do \
  if "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
  "$$p" -c 'import sys; print(sys.executable)'; break; fi; done
PYTHON ?= $(shell $(find_python))
# The versions to test on, of those that the machine has: all supported ones. 3.14t is free-threaded.
MINORS ?=
# More arguments for pytest, for `manyhands demo` and for the benchmarks.
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
# Compiled Python is kept, but in here: every process that a test starts would compile its modules
# anew, those of the standard library, too, where a Python comes without them compiled.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/target/pycache

ENVIRONMENT = "$(PYTHON)" tools/environment.py
CARGO_TEST := cargo test --locked --workspace --exclude manyhands-python
WHEELS := target/wheels
PYTEST_LIMIT_S ?= 1800
RUST_LIMIT_S ?= 1200
FUZZ_S ?= 300
# What `make test` leaves to targets of their own, or runs beside.
ONCE := and not once
USUAL := not storm and not faults and not borrowed and not benches and not dist
# The files whose tests are borrowed; the others need not be read for those.
BORROWED := $(addprefix tests/pool/,test_joblib.py test_mp_pool.py) tests/conformance
# Tests that another version of cloudpickle, NumPy, joblib, greenlet, uvicorn or waitress could break.
DEPENDENT := tests/reports $(addprefix tests/,pickle/test_pickling.py pool/test_process_scripts.py pool/test_joblib.py memory/test_shared_memory.py memory/test_shared_array.py) \
  $(wildcard tests/coroutine/test_greenlet_*.py) $(addprefix tests/server/,test_http_servers.py test_http_ends.py)

.PHONY: help
help: ## Show these commands
	@echo 'manyhands: one interface for every kind of worker'
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12 | sed 's/^/  make /'
	@echo
	@echo 'Variables: PYTHON=python3.12 (builds and runs), MINORS="3.11 3.14t" (tested), ARGS="-k map" (passed on)'

# ------------------------------------------------------------------ building

.PHONY: rust
rust:
	@command -v cargo >/dev/null || { \
	  echo 'cargo is missing: install a stable Rust toolchain, see https://rustup.rs' >&2; exit 1; }

.PHONY: python
python:
	@test -n '$(PYTHON)' || { \
	  echo 'no Python >= 3.11 found: install one (Debian: apt-get install python3) or say which: make PYTHON=...' >&2; exit 1; }

.PHONY: wheel
wheel: rust python
	@$(ENVIRONMENT) .venv "$(PYTHON)" requirements/build.txt
	@rm -rf $(WHEELS)
	@.venv/bin/maturin build --release --locked --strip --out $(WHEELS) --interpreter .venv/bin/python
	@$(ENVIRONMENT) .venv "$(PYTHON)" requirements/build.txt --wheel $(WHEELS)/*.whl

# One for each family of interpreters, as far as there are such: the tests of each need its own.
.PHONY: wheels
wheels: wheel ## Build every wheel that the interpreters found here allow
	@"$(PYTHON)" tools/wheels.py .venv/bin/maturin $(WHEELS)

.PHONY: demo
demo: wheel ## Build, and run the main job on this machine's own Python library
	@.venv/bin/manyhands demo $(ARGS)

.PHONY: dist
dist: wheels ## Build the wheels and the source archive into dist/
	@mkdir -p dist
	@cp $(WHEELS)/*.whl dist/
	@.venv/bin/maturin sdist --out dist
	@ls -l dist

# ------------------------------------------------------------------ checking

.PHONY: lint
lint: rust python ## Check format, lints, types and the rules of the house
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
	@$(ENVIRONMENT) .venvs/lint "$(PYTHON)" requirements/lint.txt
	.venvs/lint/bin/ruff format --check --quiet
	.venvs/lint/bin/ruff check --quiet
	.venvs/lint/bin/mypy
	.venvs/lint/bin/python -m pytest -q -p no:cacheprovider tests/project/test_tidy.py tests/project/test_plain_words.py tests/project/test_floors.py

.PHONY: format
format: rust python ## Format the Rust and the Python code
	@$(ENVIRONMENT) .venvs/lint "$(PYTHON)" requirements/lint.txt
	cargo fmt --all
	.venvs/lint/bin/ruff check --quiet --fix
	.venvs/lint/bin/ruff format

.PHONY: test
test: test-rust loom test-python test-benches test-dist ## Run all tests, and on each further Python found what can differ there

# With what compiles everything once more: the source archive, the crates, the oldest Rust.
.PHONY: test-all
test-all: SLOW :=
test-all: ONCE :=
test-all: test test-oldest msrv ## Run all tests on every Python, with the oldest packages and the oldest Rust

# The newest versions of what the package needs or knows are those of the other tests.
.PHONY: test-oldest
test-oldest: wheel ## Test what depends on other packages with their oldest versions
	@$(ENVIRONMENT) .venvs/oldest "$(PYTHON)" requirements/oldest.txt --wheel $(WHEELS)/*.whl
	timeout --kill-after=20 $(PYTEST_LIMIT_S) .venvs/oldest/bin/python -m pytest -p no:cacheprovider -n 2 --dist loadfile \
	  -m '$(USUAL)' $(DEPENDENT) $(ARGS)

.PHONY: test-rust
test-rust: rust ## Run the Rust tests only
	timeout --kill-after=20 $(RUST_LIMIT_S) $(CARGO_TEST) --quiet

MSRV = $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
.PHONY: msrv
msrv: rust ## Compile with the oldest Rust that Cargo.toml names (needs rustup)
	@cargo +$(MSRV) --version >/dev/null 2>&1 || { \
	  echo 'Rust $(MSRV) is missing: rustup toolchain install $(MSRV) --profile minimal' >&2; exit 1; }
	CARGO_TARGET_DIR=target/msrv cargo +$(MSRV) check --locked --workspace --all-targets --quiet

# Known faults come from a database in the network: without one, AUDIT="bans licenses sources".
AUDIT ?= advisories bans licenses sources
.PHONY: audit
audit: rust ## Check licences, sources and known faults of all crates (needs cargo-deny)
	@cargo deny --version >/dev/null 2>&1 || { \
	  echo 'cargo-deny is missing: cargo install --locked cargo-deny' >&2; exit 1; }
	cargo deny --locked check $(AUDIT)

.PHONY: loom
loom: rust ## Check the lock-free protocols in every interleaving
	RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=target/loom timeout --kill-after=20 $(RUST_LIMIT_S) cargo test --locked --quiet --release --tests \
	  -p manyhands-sync -p manyhands-channel

# Every Python gets an environment of its own, and the wheel that pip would give it; the tests import
# what was installed, not this folder. Tests mostly wait, so two run side by side, three where none
# measures what the CPUs have left, which is where it is not the first Python; and the suites
# borrowed from CPython and joblib beside them. Who has no tests left takes some of another's, down to
# the last: the files that take longest need not be known.
# All of them run on the first, which is the Python of the demo if it is among them, and on the
# others those that can differ there.
# A failure on one Python does not hide what happens on the next.
.PHONY: test-python
test-python: wheel ## Run the Python tests only
	@.venv/bin/python tools/rabbitmq.py || echo 'without a RabbitMQ, most of tests/cluster is skipped' >&2
	@"$(PYTHON)" tools/interpreters.py $(MINORS) > target/interpreters; failed=''; took=''; marks='$(USUAL)'; side_by_side=2; \
	"$(PYTHON)" tools/wheels.py .venv/bin/maturin $(WHEELS) $$(cut -d' ' -f1 target/interpreters); \
	while read -r minor python <&3; do \
	  began=$$SECONDS; echo "=== CPython $$minor: $$python"; \
	  $(ENVIRONMENT) .venvs/$$minor "$$python" requirements/test.txt --wheel $(WHEELS)/*.whl; \
	  limited="timeout --kill-after=20 $(PYTEST_LIMIT_S) .venvs/$$minor/bin/python -m pytest -p no:cacheprovider $(ARGS)"; \
	  $$limited -n 2 --dist worksteal -m "$${marks/not borrowed/borrowed}" $(BORROWED) > target/borrowed-$$minor.log 2>&1 & beside=$$!; \
	  $$limited -n $$side_by_side --dist worksteal --durations=20 -m "$$marks" || test $$? = 5 || failed="$$failed $$minor"; \
	  wait $$beside || test $$? = 5 || failed="$$failed $$minor(borrowed)"; \
	  echo "=== CPython $$minor: borrowed suites"; cat target/borrowed-$$minor.log; \
	  took="$$took $$minor: $$((SECONDS - began)) s,"; marks='$(USUAL) $(ONCE)'; side_by_side=3; \
	done 3< target/interpreters; \
	echo "=== took on CPython$${took%,}"; \
	if [ -n "$$failed" ]; then echo "failed on CPython:$$failed" >&2; exit 1; fi

# Here, since only their environment has the rivals and what draws the plots.
.PHONY: test-benches
test-benches: wheel ## Test that the benchmarks drive every rival, and what they write
	@$(ENVIRONMENT) .venvs/bench "$(PYTHON)" requirements/test.txt requirements/bench.txt --wheel $(WHEELS)/*.whl
	timeout --kill-after=20 $(PYTEST_LIMIT_S) .venvs/bench/bin/python -m pytest -p no:cacheprovider -n 2 -m benches $(ARGS)

# Without the compilations, which `make test-all` adds.
SLOW := and not slow
.PHONY: test-dist
test-dist: wheel ## Test the wheel in a clean environment, its tags and its metadata
	@$(ENVIRONMENT) .venvs/dist "$(PYTHON)" requirements/build.txt requirements/test.txt requirements/dist.txt --wheel $(WHEELS)/*.whl
	timeout --kill-after=20 $(PYTEST_LIMIT_S) .venvs/dist/bin/python -m pytest -p no:cacheprovider -m 'dist $(SLOW)' $(ARGS)

.PHONY: broker
broker: wheel ## Install the RabbitMQ of which tests start one of their own (Debian, as root)
	@.venv/bin/python tools/rabbitmq.py

.PHONY: browser
browser: ## Install the browser that loads pages in tests (Debian, as root)
	@command -v chromium-headless-shell chromium || { test "$$(id -u)" = 0 || { \
	  echo 'only root may: apt-get install --no-install-recommends chromium-headless-shell' >&2; exit 1; }; \
	  apt-get install --yes --no-install-recommends chromium-headless-shell; }

.PHONY: storm
storm: wheel ## Kill processes by the thousand for several minutes
	@$(ENVIRONMENT) .venvs/storm "$(PYTHON)" requirements/test.txt --wheel $(WHEELS)/*.whl
	MANYHANDS_STORM=20000 timeout --kill-after=20 3600 cargo test --locked --release -p manyhands-channel --test queue_storm
	timeout --kill-after=20 3600 .venvs/storm/bin/python -m pytest -m storm -o faulthandler_timeout=1800 $(ARGS)

.PHONY: faults
faults: wheel ## Have every system call of a start fail once, and interrupt every line
	@$(ENVIRONMENT) .venvs/faults "$(PYTHON)" requirements/test.txt --wheel $(WHEELS)/*.whl
	timeout --kill-after=20 14400 .venvs/faults/bin/python -m pytest -p no:cacheprovider -n 2 -m faults -o faulthandler_timeout=3600 $(ARGS)

.PHONY: fuzz
fuzz: rust ## Damage segments, and read PROXY headers and messages, at random for minutes (needs nightly Rust and cargo-fuzz)
	@cargo +nightly fuzz --version >/dev/null 2>&1 || { \
	  echo 'cargo-fuzz is missing: rustup toolchain install nightly; cargo install cargo-fuzz' >&2; exit 1; }
	cd fuzz && for target in damage proxy_header task_message; do \
	  cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_S) -len_control=0 || exit 1; done

.PHONY: miri
miri: rust ## Look for undefined behaviour with Miri (needs nightly Rust)
	@cargo +nightly miri --version >/dev/null 2>&1 || { \
	  echo 'Miri is missing: rustup toolchain install nightly --component miri,rust-src' >&2; exit 1; }
	CARGO_TARGET_DIR=target/miri cargo +nightly miri test --locked --lib -p manyhands-sync -p manyhands-channel
	CARGO_TARGET_DIR=target/miri cargo +nightly miri test --locked --lib -p manyhands-pool state::

# ------------------------------------------------------------------ measuring, writing

.PHONY: bench
bench: wheel ## Measure against other pools; BENCH_RAY=1 adds Ray
	@$(ENVIRONMENT) .venvs/bench$(if $(BENCH_RAY),-ray) "$(PYTHON)" requirements/test.txt requirements/bench.txt \
	  $(if $(BENCH_RAY),requirements/ray.txt) --wheel $(WHEELS)/*.whl
	.venvs/bench$(if $(BENCH_RAY),-ray)/bin/python -m benches $(ARGS)

.PHONY: bench-auto
bench-auto: wheel ## Measure how well workers="auto" chooses, on idle and on busy CPUs
	@$(ENVIRONMENT) .venvs/bench "$(PYTHON)" requirements/test.txt requirements/bench.txt --wheel $(WHEELS)/*.whl
	.venvs/bench/bin/python -m benches.auto $(ARGS)

.PHONY: bench-ways
bench-ways: wheel ## Measure and draw the charts of docs/server/ways.md
	@$(ENVIRONMENT) .venvs/bench "$(PYTHON)" requirements/test.txt requirements/bench.txt --wheel $(WHEELS)/*.whl
	.venvs/bench/bin/python -m benches.ways $(ARGS)

.PHONY: chaos
chaos: wheel ## Reload servers and kill their workers under a load, ours and others, and count what fails
	@$(ENVIRONMENT) .venvs/bench "$(PYTHON)" requirements/test.txt requirements/bench.txt --wheel $(WHEELS)/*.whl
	.venvs/bench/bin/python -m benches.chaos $(ARGS)

.PHONY: docs
docs: wheel ## Build the documentation into docs/_build/html
	@$(ENVIRONMENT) .venvs/docs "$(PYTHON)" requirements/docs.txt --wheel $(WHEELS)/*.whl
	.venvs/docs/bin/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo 'open docs/_build/html/index.html'

# For every supported Python at once, each of which may need another version. To a condition on the
# full version, a candidate of 3.15 is neither before 3.15 nor from it on, and gets none.
.PHONY: pins
pins: python ## Choose the newest versions for requirements/*.txt
	@$(ENVIRONMENT) .venvs/pins "$(PYTHON)"
	@.venvs/pins/bin/python -m pip install --quiet uv
	@for file in build test oldest lint docs bench ray dist; do \
	  .venvs/pins/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	    --annotation-style line --output-file requirements/$$file.txt requirements/$$file.in; \
	  sed -i 's/python_full_version/python_version/' requirements/$$file.txt; \
	done

.PHONY: clean
clean: ## Remove everything that these commands made
	rm -rf .venv .venvs target dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis
