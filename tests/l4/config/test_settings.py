from dataclasses import dataclass, replace

import pytest

from l4.config.settings import InvalidSetting, Section, Settings, setting
from l4.discovery.mesh import Mesh
from l4.hbone.settings import DrainSettings, HboneSettings
from l4.settings import SECTIONS


@dataclass(frozen=True, slots=True)
class Kitchen(Section):
    title = "Kitchen"

    kitchen_cooks: int = setting(2, least=1, most=5, aliases=("COOKS",))
    kitchen_wait_seconds: float = 1.0
    kitchen_heat: str = setting("high", choices=("low", "high"))
    kitchen_is_open: bool = False

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
        ({"KITCHEN_HEAT": "LOW"}, "KITCHEN_HEAT is 'LOW'; it must be low or high"),
        ({"KITCHEN_HEAT": "low", "COOKS": "4"}, "KITCHEN_COOKS is too many for a low heat"),
    ],
)
def test_what_a_section_cannot_work_with_is_refused(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        Settings.from_environment(environment, [Kitchen])

    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("KITCHEN_COOK", "KITCHEN_COOKS"),
        ("KITCHEN_WAIT_SECOND", "KITCHEN_WAIT_SECONDS"),
        ("KITCHEM_WAIT_SECONDS", "KITCHEN_WAIT_SECONDS"),
        ("kitchen_heat", "KITCHEN_HEAT"),
    ],
)
def test_a_variable_that_is_almost_a_settings_is_refused(variable: str, meant: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        Settings.from_environment({variable: "1", "PATH": "/bin"}, [Kitchen])

    assert str(caught.value) == f"{variable} is not the name of a setting; did you mean {meant}?"


@pytest.mark.parametrize("variable", ["PATH", "KITCHEN", "COOKS_SERVICE_HOST", "KITCHEN_PORT_9080_TCP", "WAIT_SECONDS"])
def test_variables_of_others_are_left_alone(variable: str) -> None:
    assert Settings.from_environment({variable: "1"}, [Kitchen]).of(Kitchen) == Kitchen()


def test_a_section_that_the_program_does_not_list_is_an_error_and_not_its_defaults() -> None:
    with pytest.raises(LookupError, match="Kitchen is not one of this program's sections"):
        Settings.from_environment({}, []).of(Kitchen)


def test_settings_made_by_hand_have_the_defaults_for_what_is_not_given() -> None:
    assert Settings().of(Kitchen) == Kitchen()
    assert Settings(Kitchen(kitchen_cooks=1)).of(Kitchen).kitchen_cooks == 1


def test_a_section_is_never_made_with_what_it_cannot_work_with() -> None:
    with pytest.raises(InvalidSetting, match="it must be from 1 to 5"):
        Kitchen(kitchen_cooks=0)
    with pytest.raises(InvalidSetting, match="it must be from 1 to 5"):
        replace(Kitchen(), kitchen_cooks=6)


@pytest.mark.parametrize(
    ("variable", "text", "section", "field", "value"),
    [
        ("HBONE_MAX_STREAMS", "50", HboneSettings, "hbone_max_streams", 50),
        ("HTTP2_STREAM_WINDOW_SIZE", "4194304", HboneSettings, "hbone_stream_window", 4 << 20),
        ("POOL_UNUSED_RELEASE_TIMEOUT", "5m", HboneSettings, "pool_idle_seconds", 300.0),
        ("CONNECT_SECONDS", "250ms", HboneSettings, "connect_seconds", 0.25),
        ("DRAIN_SECONDS", "7", DrainSettings, "drain_seconds", 7.0),
        ("KEEPALIVE_TIME", "180s", HboneSettings, "tcp_keepalive_seconds", 180),
        ("KEEPALIVE_TIME", "1h30m", HboneSettings, "tcp_keepalive_seconds", 5400),
        ("TRUST_DOMAIN", "example.com", Mesh, "trust_domain", "example.com"),
        ("ISTIO_META_CLUSTER_ID", "east", Mesh, "cluster_id", "east"),
        ("HTTP2_ENGINE", "h2", HboneSettings, "http2_engine", "h2"),
    ],
)
def test_a_variable_overrides_a_default(
    variable: str, text: str, section: type[Section], field: str, value: object
) -> None:
    found = getattr(Settings.from_environment({variable: text}, SECTIONS).of(section), field)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("variable", "text", "sentence"),
    [
        ("HBONE_MAX_STREAMS", "many", "HBONE_MAX_STREAMS is 'many'; it must be a whole number"),
        ("HBONE_MAX_STREAMS", "1.5", "HBONE_MAX_STREAMS is '1.5'; it must be a whole number"),
        ("HBONE_MAX_STREAMS", "0", "HBONE_MAX_STREAMS is 0; it must be from 1 to 2147483647"),
        ("HBONE_MAX_STREAMS", "٥٠", "HBONE_MAX_STREAMS is '٥٠'; it must be a whole number"),
        ("CONNECT_SECONDS", "٥s", "CONNECT_SECONDS is '٥s'; it must be seconds, or a time such as 5m"),
        ("CONNECT_SECONDS", "soon", "CONNECT_SECONDS is 'soon'; it must be seconds, or a time such as 5m"),
        ("CONNECT_SECONDS", "-1", "CONNECT_SECONDS is '-1'; it must be finite and not negative"),
        ("CONNECT_SECONDS", "inf", "CONNECT_SECONDS is 'inf'; it must be finite and not negative"),
        ("CONNECT_SECONDS", "nan", "CONNECT_SECONDS is 'nan'; it must be finite and not negative"),
        ("HTTP2_FRAME_SIZE", "1", "HBONE_MAX_FRAME or HTTP2_FRAME_SIZE is 1; it must be from 16384 to 16777215"),
        ("RESUME_BYTES", "99999999", "RESUME_BYTES is 99999999; it must not exceed BUFFERED_BYTES"),
        ("HTTP2_ENGINE", "quick", "HTTP2_ENGINE is 'quick'; it must be express or h2"),
    ],
)
def test_a_bad_value_is_refused_with_its_variable_and_what_is_expected(variable: str, text: str, sentence: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        Settings.from_environment({variable: text}, SECTIONS)

    assert str(caught.value) == sentence


def test_our_own_name_of_a_setting_comes_before_istios() -> None:
    settings = Settings.from_environment({"HBONE_MAX_FRAME": "32768", "HTTP2_FRAME_SIZE": "65536"}, SECTIONS)

    assert settings.of(HboneSettings).hbone_max_frame == 32_768


def test_the_trust_domains_are_ours_and_the_aliases() -> None:
    assert Mesh(trust_domain="a", trust_domain_aliases="b, c,,").trust_domains == {"a", "b", "c"}


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("0", False), ("1", True)])
def test_a_switch_is_true_or_false(text: str, value: bool) -> None:
    assert Settings.from_environment({"KITCHEN_IS_OPEN": text}, [Kitchen]).of(Kitchen).kitchen_is_open is value


def test_a_switch_is_nothing_else() -> None:
    with pytest.raises(InvalidSetting, match="KITCHEN_IS_OPEN is 'maybe'; it must be true or false"):
        Settings.from_environment({"KITCHEN_IS_OPEN": "maybe"}, [Kitchen])
