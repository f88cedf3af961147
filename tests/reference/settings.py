"""The page of the settings of a stack."""

from rackwright.stack.setting_table import SETTINGS
from tests.reference.markdown import code, page, table

EXAMPLE = """```yaml
config:
  rackwright:fleet: rack.yaml
  rackwright:target: twin:lab
  rackwright:containers: [service-01]
  rackwright:mirrors: lent
```"""


def render() -> str:
    """Return docs/reference/settings.md."""
    rows = [
        (code(f"rackwright:{name}"), each.form, "twin" if each.is_virtual_only else "any", each.effect)
        for name, each in SETTINGS.items()
    ]
    return page(
        "Stack settings",
        "rackwright/stack/setting_table.py",
        "A stack is `stacks/Pulumi.STACK.yaml`. Its settings stand below `config`, and `pulumi config set --stack STACK"
        " KEY VALUE` writes them too. Pulumi itself writes `encryptionsalt` and `secretsprovider` beside them.",
        EXAMPLE,
        table(("setting", "value", "target", "effect"), rows),
        "A twin takes `containers`, `mirrors` and `workloads` when its hosts are made: a changed one needs"
        " `rackwright twin reset STACK`. A stack with runs or servers, whose fleet `uses` another one, takes them"
        " from the stack of the twin.",
    )
