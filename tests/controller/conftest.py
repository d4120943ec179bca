def pytest_addoption(parser):
    try:
        parser.addoption("--regenerate", action="store_true", help="write tests/golden/*.out.yaml anew; review the diff")
    except ValueError:
        pass  # tests/golden has it already
