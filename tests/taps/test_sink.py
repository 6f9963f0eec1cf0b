from infoprobe.taps.sink import belongs_to, name_of_part


def test_parts_belong_to_the_layer_that_made_them():
    part = name_of_part("flow.scale", 1)
    for place in ("flow.scale", part, name_of_part(part, 0)):
        assert belongs_to(place, "flow.scale")
    for other in ("flow", "flow.scale.net", "flow.scales", "scale"):
        assert not belongs_to(other, "flow.scale")
        assert not belongs_to(part, other)
