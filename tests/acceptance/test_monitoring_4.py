"""Line 4 of monitoring: the page of `status` in a browser, for small and large racks."""

import itertools
import json
import re

import pytest

from benchmarks.rack import facts, fleet, keep_salt, names
from tests.support import browser, rack_page
from tests.support.acceptance import line
from tests.support.audit_document import ATTACK
from tests.support.expect import need
from tests.support.lab import Lab
from tests.support.log import Log
from tests.support.simulated import SimulatedRack

SIZES, WIDTHS, SCHEMES = (2, 40), (420, 1280, 1920), ("light", "dark")
CONTRAST = 4.5
"""Least contrast of text. Source: WCAG 2.2, success criterion 1.4.3."""
MEASURES = {
    "taken": "document.documentElement.scrollWidth",
    "window": "innerWidth",
    "cut off": "[...all('.box, .box *, .host')].filter(each => each.scrollWidth > each.clientWidth + 1"
    " && getComputedStyle(each).display !== 'inline' && !each.matches('.away')).length",
    "not to scale": "[...all('.cabinet')].filter(each => !isToScale(each)).length",
    "without focus": "[...all('a, summary')].filter(each => !showsFocus(each)).length",
    "out of order": "[...all('.cabinet')].filter(each => !isOrdered(each)).length",
    "loads": "all('[src], [srcset], [data], [background], [action], link, script:not(:last-of-type), iframe').length"
    " + styles().filter(rule => /url\\(|image-set|@import/.test(rule.cssText)).length",
    "hundredths of contrast": "100 * Math.min(...[...all('body *')].filter(hasText).map(contrast))",
}
"""What the script of the test measures in a page whose details are all open."""
SCRIPT = """
const all = selector => document.querySelectorAll(selector);
for (const each of all('details')) each.open = true;
const topOf = each => each.getBoundingClientRect().top;
const number = (each, word) => Number(each.className.match(new RegExp(`${word}-(\\\\d+)`))[1]);
const isToScale = cabinet => {
  const boxes = [...cabinet.querySelectorAll('.box')];
  const heights = boxes.map(each => (each.getBoundingClientRect().height + 2) / number(each, 'high'));
  return Math.max(...heights) - Math.min(...heights) <= 1;
};
const isOrdered = cabinet => {
  const tops = [...cabinet.querySelectorAll('.box')].map(topOf);
  return tops.every((each, index) => index === 0 || each > tops[index - 1]);
};
const styles = () => [...document.styleSheets].flatMap(sheet => [...sheet.cssRules]);
const outlines = styles()
  .filter(rule => rule.selectorText?.includes(':focus-visible') && /outline: [0-9]+px solid/.test(rule.cssText))
  .map(rule => rule.selectorText.replaceAll(':focus-visible', ''));
const showsFocus = each => {
  each.focus();
  return document.activeElement === each && each.tabIndex === 0 && outlines.some(selector => each.matches(selector));
};
const hasText = each => !each.closest('.away, style, script')
  && [...each.childNodes].some(node => node.nodeType === 3 && node.data.trim());
const parts = color => color.match(/[\\d.]+/g).map(Number);
const light = ([red, green, blue]) => [red, green, blue].map(each => each / 255)
  .map(each => each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4)
  .reduce((sum, each, index) => sum + each * [0.2126, 0.7152, 0.0722][index], 0);
const paper = each => {
  const color = parts(getComputedStyle(each).backgroundColor);
  return color.length === 4 && color[3] === 0 && each.parentElement ? paper(each.parentElement) : color;
};
const contrast = each => {
  const [low, high] = [light(parts(getComputedStyle(each).color)), light(paper(each))].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
"""


@line("monitoring", 4, part="page")
def test_the_page_of_a_rack_fits_its_screen_and_reads_without_colour_or_mouse(log: Log) -> str:
    """Nothing is wider than the window or cut off, racks are to scale, focus is visible, and nothing is loaded."""
    chromium = browser.find()
    if chromium is None:
        pytest.skip("this computer has no chromium")
    directory = log.empty_directory()
    pages = {f"{count}-hosts": rack_page.render(directory, count, faulty=True) for count in SIZES}
    pages["attacked"] = rack_page.hostile(directory, 3)
    pictures: set[bytes] = set()
    for (name, text), width, scheme in itertools.product(pages.items(), WIDTHS, SCHEMES):
        page, dark = directory / f"{name}.html", scheme == "dark"
        page.write_text(text)
        values = browser.measure(chromium, page, width, *MEASURES.values(), dark=dark, before=SCRIPT)
        found = dict(zip(MEASURES, values, strict=True))
        case = f"{name}, {width} pixels, {scheme}"
        log(f"{case}: {found}")
        need(found.pop("taken") <= found.pop("window"), f"{case}: the content is wider than the window")
        need(found.pop("hundredths of contrast") >= 100 * CONTRAST, f"{case}: a text has too little contrast")
        need(not any(found.values()), f"{case}: {found}")
        picture = directory / f"{name}-{width}-{scheme}.png"
        browser.screenshot(chromium, page, width, picture, dark=dark)
        pictures.add(picture.read_bytes())
    cases = len(pages) * len(WIDTHS) * len(SCHEMES)
    need(len(pictures) == cases, "two cases have one picture: a scheme or a width was not taken")
    return (
        f"{cases} pictures of 2 and 40 hosts and of an attack, nothing wider than {', '.join(map(str, WIDTHS))} pixels"
    )


@line("monitoring", 4, part="command")
def test_the_command_writes_the_page_of_the_hosts_that_it_has_read(log: Log) -> str:
    """Three simulated hosts: one attacks, one is as declared, one is off. The fleet has no monitoring."""
    drifted, sound, away = names(3)
    with SimulatedRack({name: facts(name) for name in (drifted, sound, away)}) as rack:
        text = fleet(rack, [rack[name] for name in (drifted, sound, away)])
        places = iter(("{name: a, unit: 5, height: 4}", "{name: a, unit: 1, height: 4}", "{name: b, unit: 7}"))
        text = re.sub("    group: storage\n", lambda found: f"{found[0]}    rack: {next(places)}\n", text)
        with Lab(log.empty_directory() / "project", text, log, target="rack") as lab:
            lab.pulumi("stack", "init", status=0)
            keep_salt(lab.directory)
            lab.pins.write_text("".join(rack[name].pin for name in (drifted, sound, away)))
            raw = facts(drifted)
            raw["arrays"][0]["bitmap"] = ATTACK
            rack[drifted].set_facts(raw)
            rack.switch_off(away)
            page = lab.directory / "rack.html"
            state = json.loads(lab.rackwright("status", lab.stack, "--json", "--page", str(page), status=1).stdout)
            refused = lab.rackwright("status", lab.stack, "--page", str(lab.directory), status=2).stderr
            need("the page cannot be written there" in refused, "a directory was taken for the page")
            html = page.read_text()
    box = r'<li class="box ([a-z-]+ unit-\d+ high-\d+)">.*?<a href="#h\d+">([^<]+)</a>'
    found = {name: place for place, name in re.findall(box, html, re.S)}
    log(f"{found}")
    need(state["hosts"][away]["state"] == "not reached", f"{away} was reached")
    need(found[drifted] == "differs unit-5 high-4", f"{drifted} is {found[drifted]}")
    need(found[sound].endswith(" unit-1 high-4"), f"{sound} is {found[sound]}")
    need(found[away] == "not-reached unit-7 high-1", f"{away} is {found[away]}")
    need("Alerts are unknown: the fleet declares no monitoring" in html, "alerts are not unknown")
    need(not re.search(r"<img|<script", html), "the page has elements of a host")
    return f"{len(found)} hosts in 2 racks"
