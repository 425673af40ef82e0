"""What the launcher wraps is there: a point or a planted bug whose method is gone would prove nothing."""

import inspect

import pytest

from tests.crash.faults import PLANTS, POINTS, locate


@pytest.mark.parametrize(
    "path", [*(point.path for point in POINTS.values()), *(path for path, _ in PLANTS.values())]
)
def test_path_leads_to_a_function(path: str) -> None:
    owner, name = locate(path)
    assert inspect.isfunction(inspect.getattr_static(owner, name))
