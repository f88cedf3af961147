"""The list of specs of Kubernetes' conformance tests, and the report of a run of them."""

import json
import re

from tests.support.conformance import FEWEST, focus, left_out, report, specs

LEAF = "should run [Conformance]"


def test_the_list_names_enough_specs_once_each() -> None:
    excluded = [name for names in left_out().values() for name in names]
    assert len(specs()) >= FEWEST
    assert len({*specs(), *excluded}) == len(specs()) + len(excluded)
    assert all(re.match(r"\[sig-[a-z-]+\] .*\[Conformance\]", name) for name in [*specs(), *excluded])


def test_the_expression_selects_the_named_specs_alone() -> None:
    names = ["[sig-storage] Volumes should support (root,0644,tmpfs)", "[sig-node] Pods should be updated"]
    chosen = re.compile(focus(names))
    assert all(chosen.search(f"Kubernetes e2e suite {name}") for name in names)
    others = ("[sig-storage] Volumes should support (non-root,0644,tmpfs)", "[sig-node] Pods should be updated twice")
    assert not any(chosen.search(name) for name in others)


def test_a_report_has_the_state_of_each_named_spec(tmp_path) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps([{"SpecReports": [
        _spec("passed", "Pods"), _spec("failed", "Jobs", {"Message": "timed out\nstack"}), _spec("skipped", "Services"),
        _spec("passed", "Unnamed"), {"ContainerHierarchyTexts": None, "LeafNodeText": "", "State": "passed"},
    ]}]))  # fmt: skip

    result = report(path, [f"[sig-node] {name} {LEAF}" for name in ("Pods", "Jobs", "Services", "Absent")])

    assert result.passed == (f"[sig-node] Pods {LEAF}",)
    assert result.failed == {f"[sig-node] Jobs {LEAF}": "timed out"}
    assert result.skipped == (f"[sig-node] Services {LEAF}", f"[sig-node] Absent {LEAF}")


def _spec(state: str, container: str, failure: dict[str, str] | None = None) -> dict[str, object]:
    return {
        "ContainerHierarchyTexts": ["[sig-node]", container],
        "LeafNodeText": LEAF,
        "State": state,
        **({"Failure": failure} if failure else {}),
    }
