import dataclasses
from dataclasses import dataclass

import pytest

from l4.config.settings import InvalidSetting, Section, Settings, setting


@dataclass(frozen=True, slots=True)
class Kitchen(Section):
    title = "Kitchen"

    kitchen_cooks: int = setting(2, least=1, most=5, aliases=("COOKS",))
    kitchen_wait_seconds: float = 1.0
    kitchen_heat: str = setting("high", choices=("low", "high"))

    def check(self) -> None:
        if self.kitchen_heat == "low" and self.kitchen_cooks > 3:
            raise InvalidSetting("KITCHEN_COOKS is too many for a low heat")


def test_a_section_is_read_from_the_environment() -> None:
    settings = Settings.from_environment({"COOKS": "3", "KITCHEN_WAIT_SECONDS": "2m"}, [Kitchen])

    assert settings.of(Kitchen) == Kitchen(kitchen_cooks=3, kitchen_wait_seconds=120)
    assert settings.of(Kitchen) is settings.of(Kitchen)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"KITCHEN_COOKS": "6"}, "KITCHEN_COOKS or COOKS is 6; it must be from 1 to 5"),
        ({"KITCHEN_COOKS": "all"}, "KITCHEN_COOKS is 'all'; it must be a whole number"),
        ({"KITCHEN_HEAT": "LOW"}, "KITCHEN_HEAT is 'LOW'; it must be one of low, high"),
        ({"KITCHEN_HEAT": "low", "COOKS": "4"}, "KITCHEN_COOKS is too many for a low heat"),
    ],
)
def test_what_a_section_cannot_work_with_is_refused(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        Settings.from_environment(environment, [Kitchen])

    assert str(caught.value) == sentence


def test_without_variables_everything_has_its_default() -> None:
    assert Settings.from_environment({"PATH": "/bin"}) == Settings()


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("HBONE_MAX_STREAMS", "50", "hbone_max_streams", 50),
        ("HTTP2_STREAM_WINDOW_SIZE", "4194304", "hbone_stream_window", 4 << 20),
        ("POOL_UNUSED_RELEASE_TIMEOUT", "5m", "pool_idle_seconds", 300.0),
        ("CONNECT_SECONDS", "250ms", "connect_seconds", 0.25),
        ("DRAIN_SECONDS", "7", "drain_seconds", 7.0),
        ("KEEPALIVE_TIME", "180s", "tcp_keepalive_seconds", 180),
        ("TRUST_DOMAIN", "example.com", "trust_domain", "example.com"),
        ("ISTIO_META_CLUSTER_ID", "east", "cluster_id", "east"),
        ("HTTP2_ENGINE", "h2", "http2_engine", "h2"),
    ],
)
def test_a_variable_overrides_a_default(variable: str, text: str, field: str, value: object) -> None:
    found = getattr(Settings.from_environment({variable: text}), field)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("variable", "text", "sentence"),
    [
        ("HBONE_MAX_STREAMS", "many", "HBONE_MAX_STREAMS is 'many'; it must be a whole number"),
        ("HBONE_MAX_STREAMS", "1.5", "HBONE_MAX_STREAMS is '1.5'; it must be a whole number"),
        ("HBONE_MAX_STREAMS", "0", "HBONE_MAX_STREAMS is 0; it must be from 1 to 2147483647"),
        ("CONNECT_SECONDS", "soon", "CONNECT_SECONDS is 'soon'; it must be seconds, or a time such as 5m"),
        ("CONNECT_SECONDS", "-1", "CONNECT_SECONDS is '-1'; it must not be negative or endless"),
        ("CONNECT_SECONDS", "inf", "CONNECT_SECONDS is 'inf'; it must not be negative or endless"),
        ("CONNECT_SECONDS", "nan", "CONNECT_SECONDS is 'nan'; it must not be negative or endless"),
        ("HTTP2_FRAME_SIZE", "1", "HBONE_MAX_FRAME or HTTP2_FRAME_SIZE is 1; it must be from 16384 to 16777215"),
        ("RESUME_BYTES", "99999999", "RESUME_BYTES is 99999999; it must not exceed BUFFERED_BYTES"),
        ("HTTP2_ENGINE", "quick", "HTTP2_ENGINE is 'quick'; it must be express or h2"),
        (
            "PATH_NORMALIZATION",
            "base",
            "PATH_NORMALIZATION is 'base'; it must be one of NONE, BASE, MERGE_SLASHES, DECODE_AND_MERGE_SLASHES",
        ),
    ],
)
def test_a_bad_value_is_refused_with_its_variable_and_what_is_expected(variable: str, text: str, sentence: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        Settings.from_environment({variable: text})

    assert str(caught.value) == sentence


def test_our_own_name_of_a_setting_comes_before_istios() -> None:
    settings = Settings.from_environment({"HBONE_MAX_FRAME": "32768", "HTTP2_FRAME_SIZE": "65536"})

    assert settings.hbone_max_frame == 32_768


def test_the_trust_domains_are_ours_and_the_aliases() -> None:
    settings = dataclasses.replace(Settings(), trust_domain="a", trust_domain_aliases="b, c,,")

    assert settings.trust_domains == {"a", "b", "c"}


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("0", False), ("1", True)])
def test_a_switch_is_true_or_false(text: str, value: bool) -> None:
    assert Settings.from_environment({"REQUIRES_REFERENCE_GRANTS": text}).requires_reference_grants is value


def test_a_switch_is_nothing_else() -> None:
    with pytest.raises(InvalidSetting, match="REQUIRES_REFERENCE_GRANTS is 'maybe'; it must be true or false"):
        Settings.from_environment({"REQUIRES_REFERENCE_GRANTS": "maybe"})
