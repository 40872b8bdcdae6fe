import subprocess
import sys

MODULES = (
    "calibration_choice", "calibration_error", "confounding", "conformal", "faithfulness", "fairness", "outliers",
    "reliability", "selective", "set_report", "site_probe",
)  # fmt: skip


def test_statistics_need_numpy_alone():
    code = (
        f"import sys, {', '.join(f'mil.{name}' for name in MODULES)};"
        "sys.exit(bool({'torch', 'sklearn', 'scipy', 'lightning', 'zarr', 'dask'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
