"""docs/limits.md has every limit, as it is; `make generate` makes it so."""

from pathlib import Path

import pytest
from triode_broker.config import Limits, Quota

from tests.house.limits_page import PAGES, page, remarks


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_the_tables_of_settings_are_current(path: Path) -> None:
    assert page(path.read_text()) == path.read_text(), "make generate"


@pytest.mark.parametrize("record", [Limits, Quota])
def test_every_limit_is_explained_where_it_stands(record: type[Limits | Quota]) -> None:
    found = list(remarks(record))
    assert tuple(name for _, name, _ in found) == record.__struct_fields__
    plain = {"_per_second", "_connections", "_subscriptions"} if record is Quota else set()
    assert [name for _, name, remark in found if not remark and not name.endswith(tuple(plain))] == []
