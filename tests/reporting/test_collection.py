import pandas
import pytest

import infoprobe as ip
from tests.reporting.rows import report


def test_reports_and_comparisons_are_collections_of_rows():
    made = report({"value": 1.0}, {"value": 2.0, "layer": "other"})
    compared = made.compare(made)
    for result in (made, compared):
        assert len(result) == 2
        assert list(result) == result.rows
        assert result.rows[1] in result
        assert result.rows[1] | {"layer": "third"} not in result
    assert pandas.DataFrame(made).equals(made.to_dataframe())
    assert len(ip.Report([])) == 0
    with pytest.raises(TypeError):
        made[0]


def test_ledgers_are_collections_of_rows():
    exact = {"measure": "entropy_change", "kind": "exact", "type": "Map", "stderr": 0.1}
    ledger = report({**exact, "value": 1.0}, {**exact, "layer": "b", "value": 2.0}).ledger()
    assert len(ledger) == 2
    assert [row["exact"] for row in ledger] == [1.0, 2.0]
