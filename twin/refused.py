"""The error of the twin's compilation."""

import ast


class Refused(Exception):
    """The code may not have the same meaning when it is compiled."""

    def __init__(self, path: str, node: ast.AST, sentence: str) -> None:
        super().__init__(f"{path}:{getattr(node, 'lineno', 1)}: {sentence}")
