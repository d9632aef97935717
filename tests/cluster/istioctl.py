"""The real istioctl, and its tables."""

import re

from tests.cluster import mesh, tools
from tests.cluster.control_plane import KUBECONFIG

_TWO_WORDS = (
    *("POD NAME", "SERVICE NAME", "SERVICE VIP", "SERVICE FQDN", "POLICY NAME", "CERTIFICATE NAME", "RESOURCE NAME"),
    *("REMOTE TARGET", "TRAFFIC TYPE", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE", "OUTLIER CHECK"),
    *("DESTINATION RULE", "SUBSCRIBED TYPES"),
)
_HEADINGS = re.compile("|".join((*_TWO_WORDS, "[A-Z]+")))


def istioctl(*arguments: str, namespace: str = mesh.NAMESPACE) -> str:
    """Runs istioctl, which looks for ztunnels or for istiod in `namespace`. A failure raises SystemExit with what it
    said."""
    said = tools.run(
        [str(tools.BIN / "istioctl"), f"--kubeconfig={KUBECONFIG}", f"--istioNamespace={namespace}", *arguments]
    )
    print(f"$ istioctl {' '.join(arguments)}\n{said}")
    return said


def rows(text: str) -> list[dict[str, str]]:
    """The rows of a table, whose columns begin below the names in the first line."""
    heading, *lines = text.strip().splitlines()
    starts = [it.start() for it in _HEADINGS.finditer(heading)]
    bounds = list(zip(starts, [*starts[1:], None], strict=True))
    return [{heading[start:end].strip(): line[start:end].strip() for start, end in bounds} for line in lines]
