"""No text of a fleet becomes a line of a file, whatever field or variable has it."""

from rackwright.fleet.source import format_keys
from rackwright.schema.formats import FORMATS
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.hostile_texts import CONTROL, FLEETS, PARSED, RIGHT, fleets_with, refusal, variants
from tests.support.log import Log


@line("hardening2", 7, "fleets")
def test_no_text_of_a_fleet_has_a_second_line(log: Log) -> str:
    """An address with a scope, a URL or a version wrote lines into units, scripts and package sources of root."""
    cases, accepted = 0, []
    for path in FLEETS:
        log(f"{path.name}")
        for sign in CONTROL:
            for keys, fleet in fleets_with(path, sign):
                cases += 1
                refused = refusal(path, fleet)
                if refused is None:
                    accepted.append(f"{path.name}: {format_keys(keys)} with U+{ord(sign):04X}")
                else:
                    need(all(each.where.startswith(f"{path}:") for each in refused.diagnostics), f"no line: {refused}")
    log.write("\n".join(accepted))
    need(cases > 0, "no fleet was tried")
    need(not accepted, f"{len(accepted)} of {cases} texts were accepted: {', '.join(accepted[:5])} …")
    return (
        f"{cases} texts in {len(FLEETS)} fleets with one of {len(CONTROL)} characters: all refused with file and line"
    )


@line("hardening2", 7, "formats")
def test_no_format_accepts_a_hostile_character(log: Log) -> str:
    """Python's parsers took any text as the scope of an address, and line breaks in a URL."""
    texts = [(name, each) for name in PARSED for text in RIGHT[name] for each in variants(text)]
    log(f"{len(texts)} texts")
    accepted = [f"{name}: {text!r}" for name, text in texts if FORMATS[name].problem(text) is None]
    need(bool(texts) and not accepted, f"{len(accepted)} of {len(texts)} were accepted: {', '.join(accepted[:5])}")
    return f"{len(texts)} texts in {len(PARSED)} formats: all refused"
