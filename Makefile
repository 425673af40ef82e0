# Needs git, make and Python 3.11 or newer; everything else goes into .venv. Node.js 20 or newer with npm, where the
# JavaScript client is to be tested, too.
# `make run` and `make test` are the two to know.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test generate format lint types docs site site-serve bench autobahn screenshot fuzz audit sbom dist \
  version clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 19

run: $(VENV)/.server ## a broker on 127.0.0.1:7400, with the demo
	@$(BIN)/triode serve --demo

# Every check is a test (formatting, lint, types, generated files: tests/house; the coverage gate: tests/gate.py), so
# that the last line says it all and one failure hides no other. One process more than the two cores it was made for:
# real brokers and browsers are waited for. An idle one takes tests from the others.
WORKERS := 3
# Hundreds of brokers and commands are started: what one has compiled is kept for the next, whatever is set outside.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/.dev $(VENV)/.js ## every check, on two cores in less than a quarter of an hour
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal --continue-on-collection-errors \
	  --gate tests/core --gate tests/protocol

generate: $(VENV)/.dev $(VENV)/.js ## errors.py, schemas, tables of SPEC.md and docs, the client that brokers serve
	@$(BIN)/python protocol/generate.py
	@$(BIN)/python -m tests.cluster.shapes
	@$(BIN)/python -m tests.house.limits_page
	@$(BIN)/python -m tests.house.metrics_reference
	@$(BIN)/python -m tests.house.site_reference
	@$(BIN)/ruff format --quiet protocol
	@if [ -e $(VENV)/.js ]; then \
	  npm run build --silent --prefix clients/js && cp clients/js/dist/triode.iife.js broker/triode_broker/http/triode.js; \
	  cp clients/js/dist/triode-sse.js broker/triode_broker/http/triode-sse.js; \
	fi

format: $(VENV)/.dev ## put every file into the one form
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

lint: $(VENV)/.dev ## ruff alone
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check

types: $(VENV)/.dev ## mypy alone
	@$(BIN)/mypy

docs: $(VENV)/.dev $(VENV)/.js ## references of both clients: .cache/docs/python and .cache/docs/js
	@$(BIN)/python -W error -m pdoc --no-show-source --output-directory .cache/docs/python \
	  triode triode.asyncio triode.sync
	@if [ -e $(VENV)/.js ]; then npm run docs --silent --prefix clients/js -- --out ../../.cache/docs/js; fi
	@ls .cache/docs/*/index.html

# Served from the disk, or by `make site-serve`, which builds again what is written meanwhile. The references of the
# clients become part of it.
SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs
site: docs ## the documentation as a site: .cache/site
	@$(SITE) build --strict --quiet --config-file docs/site/mkdocs.yml
	@rm -rf .cache/site/api && mkdir .cache/site/api && cp -R .cache/docs/* .cache/site/api/
	@ls .cache/site/index.html

site-serve: $(VENV)/.dev ## the same on 127.0.0.1:8000, while it is written
	@$(SITE) serve --strict --config-file docs/site/mkdocs.yml

bench: $(VENV)/.dev ## the figures of bench/README.md
	@$(BIN)/python -m bench.run

autobahn: $(VENV)/.dev ## Autobahn's WebSocket cases against the edge (needs CPython 2.7: tests/autobahn/README.md)
	@$(BIN)/python -m tests.autobahn.run

screenshot: $(VENV)/.dev ## docs/demo.png and docs/console*.png, in Chromium; two minutes
	@$(BIN)/python -m tests.browser.screenshot
	@$(BIN)/python -m tests.browser.console_screenshots

fuzz: $(VENV)/.dev ## a million cases at everything that takes bytes from outside, some minutes
	@$(BIN)/python -m tests.fuzz.run --keep

audit: $(VENV)/.dev ## known weaknesses of what is installed, from the registries' advisories
	@$(BIN)/python .ci/audit.py

sbom: $(VENV)/.dev ## the bill of materials of a release: .cache/sbom/triode.cdx.json
	@$(BIN)/python .ci/sbom.py .cache/sbom/triode.cdx.json

dist: $(VENV)/.dev $(VENV)/.js ## what is released: wheel, archive of sources and npm tarball, in dist/
	@rm -rf dist && $(BIN)/python -m build --outdir dist . >/dev/null
	@if [ -e $(VENV)/.js ]; then \
	  npm run build --silent --prefix clients/js && npm pack --silent --pack-destination dist ./clients/js >/dev/null; \
	fi
	@ls dist/*

version: $(VENV)/.dev ## take the version of pyproject.toml to the npm package
	@npm version --silent --no-git-tag-version --allow-same-version --prefix clients/js \
	  $$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

clean: ## away with everything that is made
	rm -rf $(VENV) .cache .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache dist
	rm -rf clients/js/node_modules clients/js/dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp per extra: installed again when pyproject.toml has changed.
$(VENV)/.server: pyproject.toml | $(BIN)/python
	@echo "installing the broker into $(VENV) …"
	@$(PIP) install --editable '.[server]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "installing the broker and what its tests need into $(VENV), about a minute the first time …"
	@$(PIP) install --editable '.[dev]'
	@touch $@ $(VENV)/.server

# Without npm the tests of the JavaScript client are skipped; in CI they fail.
$(VENV)/.js: clients/js/package-lock.json | $(BIN)/python
	@if command -v npm >/dev/null; then \
	  echo "installing what the tests of the JavaScript client need into clients/js/node_modules …"; \
	  npm ci --prefix clients/js --loglevel error && touch $@; \
	else \
	  echo "There is no npm: the JavaScript client is not tested."; \
	fi

# Names of Pythons are tried, not believed: a shim may be there without the version behind it, and Debian's python3
# may come without venv. Set PYTHON to choose one.
$(BIN)/python:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    rm -rf $(VENV); exec $$python -m venv $(VENV); \
	  fi; \
	done; \
	echo "No Python 3.11 or newer with venv was found." >&2; \
	echo "Debian, Ubuntu: apt-get install python3 python3-venv. macOS: brew install python." >&2; \
	echo "Or name one: make PYTHON=/path/to/python3.12 ..." >&2; \
	exit 1
