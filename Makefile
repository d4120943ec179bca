# make build   .venv/bin/gwfast, from nothing but Python 3.11+ and a C compiler
# make test    the same, then the whole test suite          (make test ARGS="tests/unit -k path")
# make test-cluster   the tests on a real Kubernetes of this machine's own: Linux, root, Go          (ARGS as above)
#                     (GWFAST_FROZEN=60: the API server is frozen for a minute, not for 15 seconds)
# make conformance   the Gateway API's own conformance suite against gwfast in such a Kubernetes; its report is conformance/*.yaml
#                    (MODE=standard|dedicated|one-process, VERSION=1.7.0, ARGS="--run-test=NAME" and other flags of the suite)
# make bench   gwfast beside others, on a quiet machine; the report is bench/results/report.html, its figures are README.md's
# make docs    the site with all documentation: build/docs/site; `make docs-serve` shows it on http://localhost:8000
# make cluster   a Kubernetes of this machine's own with gwfast, a Gateway and backends, ports 8080 and 6443, until Ctrl-C
# make demo    echo backends and the gateway on examples/demo/, ports 8080 and 8443, until Ctrl-C
.DEFAULT_GOAL := build
.PHONY: build test cluster-tools test-cluster conformance demo cluster bench docs docs-serve clean
.DELETE_ON_ERROR:

COMPILED := setup.py $(shell find gwfast -name "*.pyx" -o -name "*.pxd") $(wildcard tests/*.pyx)

.venv/.installed: constraints.txt pyproject.toml ci/venv
	@echo "gwfast: installing the pinned dependencies into .venv"
	@ci/venv
	@touch $@

.venv/.built: .venv/.installed $(COMPILED)
	@echo "gwfast: compiling $(words $(filter %.pyx,$(COMPILED))) Cython modules with $$(nproc) processes (from nothing: a few minutes of CPU time)"
	@begin=$$(date +%s); \
	.venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . && \
	.venv/bin/python -m compileall -q gwfast && \
	echo "gwfast: .venv/bin/gwfast is built, in $$(($$(date +%s) - begin)) s"
	@touch $@

build: .venv/.built

test: build
	.venv/bin/python -m pytest -n $(shell expr $$(nproc) + 1) --dist loadfile $(ARGS)

cluster-tools: build
	@[ -n "$$GWFAST_CLUSTER_BIN" ] || .venv/bin/python tests/cluster/binaries.py

test-cluster: cluster-tools
	.venv/bin/python -m pytest tests/cluster $(ARGS)

conformance: cluster-tools
	@.venv/bin/python tests/cluster/conformance.py $(if $(MODE),--mode $(MODE)) $(if $(VERSION),--version $(VERSION)) $(ARGS)

demo: build
	@.venv/bin/python examples/demo.py

cluster: cluster-tools
	@.venv/bin/python tests/cluster/demo.py

bench: build
	@.venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[bench]' --no-build-isolation
	.venv/bin/python -m bench --install
	.venv/bin/python -m bench --json bench/results/report.jsonl --html bench/results/report.html --readme README.md $(ARGS)

docs: build
	@ci/docs

docs-serve: build
	@ci/docs --serve

clean:
	rm -rf .venv build *.egg-info
	find gwfast tests -name "*.so" -delete
