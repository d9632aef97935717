import os
import sys

from bench import machine
from bench.chain import PLAIN, TWIN


def test_a_figure_comes_with_the_machine_and_the_programs_that_it_is_of() -> None:
    found = machine.describe(python=sys.executable, packages=PLAIN)

    assert found["cores"] == os.cpu_count()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert str(found["openssl"]).startswith("OpenSSL ")
    assert str(found["envoy"]).startswith("1.")
    assert found["ours"] == "plain source"
    assert machine.describe(python=sys.executable, packages=TWIN)["ours"] == "compiled twin"
