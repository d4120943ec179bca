"""The commands of pages that no test types, each with its reason: beginnings of commands, as regular expressions.

Each of these has to be on some page, else it has no place here.
"""
CLUSTER = "it needs a cluster that is there; tests/cluster does the same in one of its own (test_install.py, test_helm.py)"
ENGINE = "it needs a container engine; tests/deploy/test_container.py runs what the Dockerfile and the compose file say"
BUILD = "it makes what the tests run"
SELF = "it is a run of tests, or longer than one"
SYSTEM = "it changes the system; tests/deploy/test_units.py runs what the units say"
NOT_RUN = {
    r"kubectl (?!create secret)": CLUSTER,
    r"helm ": CLUSTER,
    r"curl http://ADDRESS": CLUSTER,
    r"docker ": ENGINE,
    r"(pip install )?cibuildwheel": ENGINE,
    r"make build$": BUILD,
    r"make demo$": "tests/proxy/test_demo.py runs it, on other ports",
    r"make docs$": "test_site.py runs it",
    r"(ci/quick|ci/run|make (test|test-cluster|bench))\b": SELF,
    r"ci/manifests$": "it writes into the tree; tests/deploy/test_chart.py compares what it makes",
    r"export PATH=": BUILD,
    r"ci/package": SELF,
    r"make conformance": SELF,
    r"python3 -m venv /opt/gwfast|/opt/gwfast/bin/pip|cp deploy/systemd/": SYSTEM,
    r"systemctl ": SYSTEM,
}
