"""One folder for the tests to run the program in."""

import pytest


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    return tmp_path_factory.mktemp("swbench")
