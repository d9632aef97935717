from l4.config.settings import Settings
from l4.discovery.mesh import Mesh
from waypoint.config.compile_options import CompileOptions, options_of
from waypoint.config.settings import ConfigSettings
from waypoint.http.settings import HttpSettings
from waypoint.telemetry.tracing_settings import SpanTagSettings

GATEWAY = ("default", "waypoint")


def test_without_settings_the_options_are_the_defaults() -> None:
    assert options_of(Settings(), GATEWAY, None, frozenset()) == CompileOptions(GATEWAY)


def test_each_option_comes_from_its_setting() -> None:
    settings = Settings(
        ConfigSettings(requires_reference_grants=True),
        HttpSettings(path_normalization="NONE"),
        Mesh(trust_domain="a.example", trust_domain_aliases="b.example"),
        SpanTagSettings(" ZONE, RACK,"),
    )

    assert options_of(settings, GATEWAY, "10.0.0.9", frozenset({"books"})) == CompileOptions(
        GATEWAY,
        own_ip="10.0.0.9",
        requires_reference_grants=True,
        path_normalization="NONE",
        trust_domains=frozenset({"a.example", "b.example"}),
        denied=frozenset({"books"}),
        tag_variables=frozenset({"ZONE", "RACK"}),
    )
