"""Parameters by named axes, options with their schema, choices as text."""

import pytest

from nas.errors import SpecError
from nas.operators.declaration import Choice, Option, Parameter


def test_axes_are_names_or_lengths() -> None:
    parameter = Parameter(("heads", "head_width"), ("width", 3))
    shape = parameter.shape({"heads": 2, "head_width": 4, "width": 5})
    assert shape == (2, 4, 5, 3)
    assert parameter.fan(shape) == (8, 15)
    assert Parameter(("width",)).fan((5,)) == (5, 1)


def test_an_enumerated_option_knows_its_choices() -> None:
    option = Option(1, choices=(1, 2), description="how many")
    assert option.schema() == {"enum": [1, 2], "default": 1, "description": "how many"}
    assert option.check(2, "here") == 2
    # 1.0 and True equal 1, but another text would be written for them.
    for value in (3, 1.0, True, "1", None, [1]):
        with pytest.raises(SpecError, match=r"^here: .* is not a choice; .*allowed: 1, 2"):
            option.check(value, "here")


def test_a_counted_option_has_a_least_value() -> None:
    option = Option(4, minimum=2)
    described = {"type": "integer", "minimum": 2, "default": 4, "description": ""}
    assert option.schema() == described
    assert option.check(2, "here") == 2
    for value in (1, 2.0, True, "3", None):
        with pytest.raises(SpecError, match=r"^here: .* given, an integer >= 2 is allowed"):
            option.check(value, "here")


def test_a_choice_is_shown_with_its_options() -> None:
    assert str(Choice("softmax")) == "softmax"
    assert str(Choice("linear", (("feature_map", "relu"),))) == "linear(feature_map=relu)"
