"""Response flags: short reasons why the proxy itself answered a request.

The codes are Envoy's, because access logs, dashboards and operators already use them.
"""

from enum import StrEnum


class ResponseFlag(StrEnum):
    NO_HEALTHY_UPSTREAM = "UH"
    UPSTREAM_CONNECTION_FAILURE = "UF"
    UPSTREAM_OVERFLOW = "UO"
    NO_ROUTE_FOUND = "NR"
    UPSTREAM_RETRY_LIMIT_EXCEEDED = "URX"
    NO_CLUSTER_FOUND = "NC"
    DOWNSTREAM_CONNECTION_TERMINATION = "DC"
    UPSTREAM_REQUEST_TIMEOUT = "UT"
    UPSTREAM_REMOTE_RESET = "UR"
    LOCAL_RESET = "LR"
    UPSTREAM_CONNECTION_TERMINATION = "UC"
    STREAM_IDLE_TIMEOUT = "SI"
    DELAY_INJECTED = "DI"
    FAULT_INJECTED = "FI"
    RATE_LIMITED = "RL"
    RATE_LIMIT_SERVICE_ERROR = "RLSE"
    UNAUTHORIZED_EXTERNAL_SERVICE = "UAEX"
    DOWNSTREAM_PROTOCOL_ERROR = "DPE"
    UPSTREAM_PROTOCOL_ERROR = "UPE"
