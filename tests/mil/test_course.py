from mil.course import EpochRow, log_table


def test_log_as_a_table():
    rows = [EpochRow(0, 0.5, 1e-3), EpochRow(1, 1 / 3, 5e-4, None, 0.7), EpochRow(2, 0.25, 1e-9, 1.0, 0.6)]
    assert log_table(rows) == (
        "epoch,loss,lr,metric,log_loss\n0,0.5,0.001,,\n1,0.33333333,0.0005,,0.7\n2,0.25,1e-09,1,0.6\n"
    )
