"""The names of time zones that every supported system has."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

_LEGACY = """
Africa/Asmera America/Argentina/ComodRivadavia America/Buenos_Aires America/Catamarca America/Cordoba
America/Fort_Wayne America/Godthab America/Indianapolis America/Jujuy America/Knox_IN America/Louisville
America/Mendoza America/Rosario Antarctica/South_Pole Asia/Ashkhabad Asia/Calcutta Asia/Choibalsan
Asia/Chungking Asia/Dacca Asia/Katmandu Asia/Macao Asia/Rangoon Asia/Saigon Asia/Thimbu Asia/Ujung_Pandang
Asia/Ulan_Bator Atlantic/Faeroe Australia/ACT Australia/LHI Australia/NSW Australia/North Australia/Queensland
Australia/South Australia/Tasmania Australia/Victoria Australia/West Brazil/Acre Brazil/DeNoronha Brazil/East
Brazil/West CET CST6CDT Canada/Atlantic Canada/Central Canada/Eastern Canada/Mountain Canada/Newfoundland
Canada/Pacific Canada/Saskatchewan Canada/Yukon Chile/Continental Chile/EasterIsland Cuba EET EST EST5EDT Egypt
Eire Europe/Kiev Europe/Uzhgorod Europe/Zaporozhye GB GB-Eire GMT+0 GMT-0 GMT0 Greenwich HST Hongkong Iceland
Iran Israel Jamaica Japan Kwajalein Libya MET MST MST7MDT Mexico/BajaNorte Mexico/BajaSur Mexico/General NZ
NZ-CHAT Navajo PRC PST8PDT Pacific/Enderbury Pacific/Ponape Pacific/Truk Poland Portugal ROC ROK Singapore
Turkey UCT US/Alaska US/Aleutian US/Arizona US/Central US/East-Indiana US/Eastern US/Hawaii US/Indiana-Starke
US/Michigan US/Mountain US/Pacific US/Samoa Universal W-SU WET Zulu
"""
LEGACY = frozenset(_LEGACY.split())
"""Old names, which Debian 13 and Ubuntu 24.04 have only with the package tzdata-legacy. Source: 2026f of Debian 13."""


@cache
def names() -> frozenset[str]:
    """Return the names in the tz database, without old ones."""
    return frozenset(files("tzdata").joinpath("zones").read_text().split()) - LEGACY


@cache
def current_names() -> Mapping[str, str]:
    """Return the current name of each old one that is a link to it."""
    lines = files("tzdata").joinpath("zoneinfo/tzdata.zi").read_text().splitlines()
    links = (line.split() for line in lines if line.startswith("L "))  # L CURRENT OLD
    return {old: current for _, current, old in links if old in LEGACY and current in names()}
