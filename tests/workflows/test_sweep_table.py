import csv
import io
import json

import numpy as np

from mil.intervals import Interval
from workflows.sweep_table import Cell, table_csv, table_lines
from wsi.files import to_json


def cell(model, seed, qwk, encoder="lite0", **changes):
    metrics = {
        "qwk": Interval(qwk, qwk - 0.1, qwk + 0.1, 0.95, 9, "bootstrap"),
        "log_loss": Interval(1 - qwk, 0.1, float("nan"), 0.95, 9, "bootstrap"),
    }
    return Cell(model, encoder, seed, metrics, 1234, 0.5, "abc", **changes)


CELLS = [cell("mean", 0, 0.5), cell("abmil", 0, 0.8), cell("abmil", 1, 0.6), Cell("max", "lite0", 0, error="no, never")]


def test_csv_has_every_cell_in_order():
    rows = list(csv.DictReader(io.StringIO(table_csv(CELLS))))
    assert [(row["model"], row["seed"]) for row in rows] == [
        ("mean", "0"),
        ("abmil", "0"),
        ("abmil", "1"),
        ("max", "0"),
    ]
    assert (rows[1]["qwk"], rows[1]["qwk_low"], rows[1]["qwk_high"]) == ("0.800000", "0.700000", "0.900000")
    assert rows[1]["log_loss_high"] == ""
    assert (rows[1]["seconds_per_epoch"], rows[1]["parameters"], rows[1]["model_id"]) == ("0.500", "1234", "abc")
    assert (rows[3]["qwk"], rows[3]["parameters"], rows[3]["error"]) == ("", "", "no, never")


def test_for_people_seeds_are_joined_and_the_best_comes_first():
    lines = table_lines(CELLS)
    assert lines[0].split() == ["model", "encoder", "seeds", "qwk", "(95", "%)", "log", "loss", "s/epoch", "parameters"]
    assert lines[1].split()[:6] == ["abmil", "lite0", "2", "0.700", "(0.600", "to"]
    assert lines[1].endswith("0.800)  0.300     0.50     1,234")
    assert lines[2].startswith("mean")
    assert "confirm it on others" in lines[-1]
    assert not any("max" in line for line in lines)


def test_one_cell_needs_no_warning_and_none_no_table():
    assert not any("confirm" in line for line in table_lines(CELLS[:1]))
    assert table_lines(CELLS[3:]) == []
    assert len(table_csv(CELLS[3:]).splitlines()) == 2


def test_an_undefined_metric_comes_last():
    lines = table_lines([cell("mean", 0, float("nan")), cell("abmil", 0, 0.1)])
    assert [line.split()[0] for line in lines[1:3]] == ["abmil", "mean"]


def test_cells_go_into_json():
    found = json.loads(to_json([one.to_dict() for one in CELLS]))
    assert found[1]["metrics"]["qwk"]["estimate"] == 0.8
    assert found[1]["metrics"]["log_loss"]["high"] is None
    assert np.isclose(found[2]["seconds_per_epoch"], 0.5)
