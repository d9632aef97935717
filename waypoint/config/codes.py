"""The codes of problems found while compiling: routes, policies and their references."""

from l4.config.codes import Code, Level


class ConfigCode(Code):
    """Routes, policies and what they refer to."""

    PARENT_NOT_FOUND = (
        "PWP0101",
        "ParentNotFound",
        Level.ERROR,
        "The route's parent does not exist.",
        "IST0101",
    )
    PARENT_PORT_NOT_FOUND = (
        "PWP0102",
        "ParentPortNotFound",
        Level.ERROR,
        "The parent has no such port.",
        "IST0101",
    )
    BACKEND_NOT_FOUND = (
        "PWP0103",
        "BackendNotFound",
        Level.ERROR,
        "The backend, or its port, does not exist. Its share gets 500, or 503 in a VirtualService.",
        "IST0101",
    )
    BACKEND_KIND_UNKNOWN = (
        "PWP0104",
        "BackendKindUnknown",
        Level.ERROR,
        "This waypoint knows no backends of this kind.",
    )
    REFERENCE_NOT_PERMITTED = (
        "PWP0105",
        "ReferenceNotPermitted",
        Level.ERROR,
        "REQUIRES_REFERENCE_GRANTS is set, and the other namespace has no ReferenceGrant for this.",
    )
    FILTER_INVALID = (
        "PWP0106",
        "FilterInvalid",
        Level.ERROR,
        "The filter can't be used here. Its rule answers 500.",
    )
    PROTOCOL_MISMATCH = (
        "PWP0107",
        "ProtocolMismatch",
        Level.ERROR,
        "A route or policy of this kind has no effect on a port of this protocol.",
    )
    RULE_INVALID = (
        "PWP0108",
        "RuleInvalid",
        Level.ERROR,
        "A value of the rule is not accepted. The rule's requests get 500; a TCP or TLS rule's connections are closed.",
        "IST0106",
    )
    TARGET_NOT_FOUND = (
        "PWP0121",
        "TargetNotFound",
        Level.ERROR,
        "The policy's target does not exist.",
        "IST0101",
    )
    POLICY_CONFLICTED = (
        "PWP0122",
        "PolicyConflicted",
        Level.ERROR,
        "Another object, such as an older policy, already has the same target. This one has no effect there.",
    )
    NOT_ENTITLED = (
        "PWP0123",
        "NotEntitled",
        Level.ERROR,
        "Objects of this namespace can't configure the service. The object has no effect there.",
    )
    PROVIDER_INVALID = (
        "PWP0133",
        "ProviderInvalid",
        Level.ERROR,
        "The authorizer is unknown or its settings are invalid. All that the policy matches is denied.",
    )
    TELEMETRY_INVALID = (
        "PWP0134",
        "TelemetryInvalid",
        Level.ERROR,
        "This part of a Telemetry object, or of a provider that it names, can't be used. The rest applies.",
    )
    RULE_NEVER_MATCHES = (
        "PWP0301",
        "RuleNeverMatches",
        Level.WARNING,
        "Other rules come first for every request that this rule matches.",
        "IST0130",
    )
    LOCALITY_WITHOUT_EFFECT = (
        "PWP0316",
        "LocalityWithoutEffect",
        Level.WARNING,
        "A setting or label for locality is missing. Near and far endpoints are treated alike.",
    )
    POLICY_NOT_TARGETED = (
        "PWP0501",
        "PolicyNotTargeted",
        Level.WARNING,
        "A waypoint enforces only policies whose targetRefs name it or its services.",
        "IST0167",
    )
    TOKENS_REFUSED = (
        "PWP0502",
        "TokensRefused",
        Level.ERROR,
        "The rule for an issuer's tokens can't be used. All tokens of the issuer are refused.",
    )
