import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l4.config.encoded import Encoded

_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_values = st.recursive(_scalars, lambda its: st.lists(its) | st.dictionaries(st.text(), its), max_leaves=20)


@given(st.dictionaries(st.text(), _values))
def test_any_object_of_json_is_what_it_was(content: dict[str, Any]) -> None:
    encoded = Encoded.of(content)

    assert encoded.decoded() == content
    assert pickle.loads(pickle.dumps(encoded)).json == encoded.json


def test_it_reads_as_a_mapping() -> None:
    encoded = Encoded.of({"kind": "Pod", "metadata": {"name": "a"}})

    assert encoded["metadata"] == {"name": "a"}
    assert list(encoded) == ["kind", "metadata"]
    assert len(encoded) == 2
    assert encoded.get("spec") is None
    assert dict(encoded) == encoded.decoded()
    with pytest.raises(KeyError):
        encoded["spec"]
