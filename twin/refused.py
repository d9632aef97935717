"""What the twin's compilation says no to."""

import ast


class Refused(Exception):
    """What stands there is not known to mean the same when it is compiled."""

    def __init__(self, path: str, node: ast.AST, sentence: str) -> None:
        super().__init__(f"{path}:{getattr(node, 'lineno', 1)}: {sentence}")
