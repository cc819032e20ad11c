"""Where values come from, asked of thousands of backends: as much work for each, however many there are."""

import pytest
from work import is_linear, lines_of

from twisted_lb.config.load import Source


@pytest.mark.parametrize("between", [", ", ",\n"], ids=["one line", "a line each"])
def test_where_backends_come_from_costs_as_much_for_each_however_many_there_are(tmp_path, between):
    def work(count):
        file = tmp_path / f"{count}.toml"
        backends = between.join(f'{{ address = "b{number}:80", weight = 2 }}' for number in range(count))
        file.write_text(
            f"[pools.app]\nbackends = [{backends}]\n[[routes]]\npool = 'app'\n[listeners.web]\naddress = ':80'\n"
        )
        source = Source({}, file)
        source.load()
        origins = source.loaded.origins
        places = [("pools", "app", "backends", f"b{number}:80", "weight") for number in range(count)]
        origins.of(places[0])
        return lines_of(lambda: [origins.of(place) for place in places])

    assert is_linear(work)
