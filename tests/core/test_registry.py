import pytest

from core import registry
from core.errors import SpecError


def test_every_name_in_the_folder_loads_a_class_that_says_what_it_is() -> None:
    for folder in ("generators", "algorithms"):
        names = registry.available(folder)
        assert names
        assert all(registry.load(folder, name).__doc__ for name in names)


def test_a_plug_in_is_named_by_module_and_class() -> None:
    assert registry.load("generators", "generators.none:RealOnly") is registry.load("generators", "none")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ensembel", "generator must be one of .*got 'ensembel'; did you mean 'ensemble'"),
        ("no_such_module:X", "cannot be imported: No module named 'no_such_module'"),
        ("generators.none:Missing", "cannot be imported"),
        ("generators.none:__all__", "must be a class, got list"),
        ("builtins:int", "must be a dataclass, got int"),
        (":X", "cannot be imported: Empty module name"),
        (".none:X", "cannot be imported"),
    ],
)
def test_what_cannot_be_loaded_is_named(name: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        registry.load("generators", name)
