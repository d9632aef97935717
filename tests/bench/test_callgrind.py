import pytest

from bench.callgrind import Profile, Unreadable, parse

_ANNOTATED = """\
--------------------------------------------------------------------------------
Profile data file 'callgrind.7.1' (creator: callgrind-3.19.0)
--------------------------------------------------------------------------------
Thresholds:       99

--------------------------------------------------------------------------------
Ir
--------------------------------------------------------------------------------
525,168,972 (100.0%)  PROGRAM TOTALS

--------------------------------------------------------------------------------
Ir                    file:function
--------------------------------------------------------------------------------
129,291,068 (24.62%)  /build/Python/ceval.c:_PyEval_EvalFrameDefault'2 [/usr/lib/libpython3.11.so.1.0]
  4,644,659 ( 0.88%)  ???:0x0000000000241c80 [/usr/lib/libcrypto.so.3]
"""


def test_the_total_and_each_function_are_read() -> None:
    assert parse(_ANNOTATED) == Profile(
        525_168_972, (("ceval.c:_PyEval_EvalFrameDefault'2", 129_291_068), ("???:0x0000000000241c80", 4_644_659))
    )


def test_a_profile_without_a_total_is_refused() -> None:
    with pytest.raises(Unreadable, match="no total"):
        parse(_ANNOTATED.replace("PROGRAM TOTALS", ""))
