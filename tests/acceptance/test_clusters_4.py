"""Line 4: the same checks on every object store, and the table in the guide that they give."""

from tests.support import store_table
from tests.support.acceptance import line
from tests.support.expect import need
from tests.support.log import Log


@line("clusters", 4, "stores")
def test_every_store_does_what_the_table_says(log: Log) -> str:
    """Real servers answer the same checks; the guide has their answers, and rights hold on each of them."""
    columns: dict[str, dict[str, str]] = {}
    for make, run in store_table.servers(log).items():
        log(f"checking {store_table.TITLES[make]}")
        with run(log.empty_directory()) as server:
            columns[make] = store_table.column(make, server)
    cells = [(make, name, cell) for make, column in columns.items() for name, cell in column.items()]
    need(columns.keys() == store_table.TITLES.keys() and len(cells) > len(columns), f"only {len(cells)} checks")
    for make, name, cell in cells:
        is_right = name.startswith(("`access", "no right", "policy"))
        need(not is_right or (cell.startswith("yes") and "without" not in cell), f"{make}: {name}: {cell}")
    found, shown = store_table.table(columns), store_table.shown()
    store_table.write(found)
    need(found == shown, "the table in the guide was another one, and is written now: look at its changes")
    yes = sum(cell.startswith("yes") for _, _, cell in cells)
    rights = f"the rights of {len(store_table.ACCESS)} users hold on each"
    return f"{len(cells)} checks of {len(columns)} stores: {yes} as in S3; {rights}"
