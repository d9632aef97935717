"""How a benchmark shows its figures: by name, as a list for people or as JSON."""

import json
from collections.abc import Mapping


def show(result: Mapping[str, Mapping[str, object]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
        return
    for name, figures in result.items():
        print(f"- {name}: " + ", ".join(f"{key} {value}" for key, value in figures.items()))
