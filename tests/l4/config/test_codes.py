from l4.config.codes import CODES, Code


def test_every_code_is_explained_under_a_name_of_its_own() -> None:
    assert set(CODES) == set(Code)
    assert len({entry.name for entry in CODES.values()}) == len(CODES)
