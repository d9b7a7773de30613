"""The two keys."""

from __future__ import annotations

from dataclasses import asdict

from vitbench.catalogue.resolve import expand_tasks
from vitbench.identity import Slot, cell_identity, differing

SLOT = Slot("lab_ssl", "none", "depth@ridge", "scenes", 0)


def test_identity_does_not_depend_on_the_order_of_components() -> None:
    assert cell_identity(SLOT, {"a": 1, "b": {"c": 2, "d": 3}}) == cell_identity(SLOT, {"b": {"d": 3, "c": 2}, "a": 1})


def test_identity_changes_with_any_component_and_with_the_slot() -> None:
    base = cell_identity(SLOT, {"weights": "x", "view": "whole"})
    other = Slot("lab_ssl", "none", "depth@ridge", "scenes", 1)
    assert (
        len(
            {
                base,
                cell_identity(SLOT, {"weights": "y", "view": "whole"}),
                cell_identity(other, {"weights": "x", "view": "whole"}),
            }
        )
        == 3
    )


def test_differing_components_are_named_by_their_path() -> None:
    a = {"backbone": {"digest": "1", "name": "x"}, "view": "whole"}
    b = {"backbone": {"digest": "2", "name": "x"}, "view": "whole", "dtype": "float32"}
    assert differing(a, b) == ["backbone.digest", "dtype"]


def test_a_setting_that_came_later_is_in_the_identity_only_where_it_is_not_at_its_default() -> None:
    [plain], [changed] = expand_tasks("object_discovery@lost"), expand_tasks("object_discovery@lost[unit=true]")
    assert set(asdict(plain.settings)) - set(plain.identity()["settings"]) == {"unit", "binary", "no_hard"}
    assert changed.identity()["settings"] == {**plain.identity()["settings"], "unit": True}
