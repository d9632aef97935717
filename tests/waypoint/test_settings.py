"""The lists of sections hold everything that is declared, and each program reads its own."""

import importlib
import pkgutil
from collections import Counter
from types import ModuleType

import click
import pytest

import l4
import waypoint
from l4 import settings as l4_settings
from l4.config.settings import InvalidSetting, Section, Settings, fields_of, variables_of
from l4.ztunnel.cli import cli as ztunnel
from waypoint.cli import cli
from waypoint.http.settings import HttpSettings
from waypoint.settings import OWN, SECTIONS


def declared(package: ModuleType) -> set[str]:
    """The sections that the modules of a package define, by their names: `slots=True` makes a second class of each."""
    for it in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not it.name.endswith("__main__"):
            importlib.import_module(it.name)
    return {name_of(it) for it in Section.__subclasses__() if it.__module__.startswith(f"{package.__name__}.")}


def name_of(section: type[Section]) -> str:
    return f"{section.__module__}.{section.__name__}"


def variables(sections: tuple[type[Section], ...]) -> list[str]:
    return [name for section in sections for it in fields_of(section) for name in variables_of(it)]


def flags(command: click.Command, prefix: str) -> set[str]:
    """The variables of a program's flags, of its subcommands, too."""
    found = {f"{prefix}_{it.name}".upper() for it in command.params}
    for name, its in getattr(command, "commands", {}).items():
        found |= flags(its, f"{prefix}_{name}") | flags(its, prefix)
    return found


def test_each_section_that_a_feature_declares_is_listed_once() -> None:
    assert declared(l4) == set(map(name_of, l4_settings.SECTIONS))
    assert declared(waypoint) == set(map(name_of, OWN))
    assert len(set(SECTIONS)) == len(SECTIONS)


def test_no_variable_belongs_to_two_settings() -> None:
    assert [name for name, count in Counter(variables(SECTIONS)).items() if count > 1] == []


def test_a_ztunnel_has_no_setting_of_a_waypoint_and_leaves_their_variables_alone() -> None:
    settings = Settings.from_environment(dict.fromkeys(variables(OWN), "?"), l4_settings.SECTIONS)

    with pytest.raises(LookupError, match="HttpSettings is not one of this program's sections"):
        settings.of(HttpSettings)


def test_no_variable_of_a_flag_or_of_tracing_is_taken_for_a_misspelled_setting() -> None:
    tracing = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_SERVICE_NAME", "OTEL_TRACES_SAMPLER"}

    Settings.from_environment(dict.fromkeys(flags(cli, "WAYPOINT") | tracing, "?"), SECTIONS)
    Settings.from_environment(dict.fromkeys(flags(ztunnel, "ZTUNNEL") | tracing, "?"), l4_settings.SECTIONS)


def test_a_misspelled_setting_of_a_waypoint_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"^PATH_NORMALISATION is not .*; did you mean PATH_NORMALIZATION"):
        Settings.from_environment({"PATH_NORMALISATION": "NONE"}, SECTIONS)


def test_a_choice_is_refused_with_all_of_them() -> None:
    with pytest.raises(InvalidSetting) as caught:
        Settings.from_environment({"PATH_NORMALIZATION": "base"}, SECTIONS)

    assert str(caught.value) == (
        "PATH_NORMALIZATION is 'base'; it must be one of NONE, BASE, MERGE_SLASHES, DECODE_AND_MERGE_SLASHES"
    )
