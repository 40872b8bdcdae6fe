"""Tables of predictions as `grade` and `train` write them, made up."""

import numpy as np


def tables(folder, task="grade", classes=("0", "1", "2", "3"), n=60, seed=0):
    """predictions.csv as `grade` writes it, and labels.csv; gives the truth and the probabilities as well."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, len(classes), n)
    logits = rng.normal(size=(n, len(classes))) + 2 * np.eye(len(classes))[targets]
    p = np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 6)
    head = f"slide_id,patient_id,{task},{','.join(f'p_{name}' for name in classes)},calibrated,tiles\n"
    rows = [f"s{i:03d},P{i // 2},{classes[p[i].argmax()]},{','.join(str(v) for v in p[i])},yes,40\n" for i in range(n)]
    (folder / "predictions.csv").write_text(head + "".join(rows))
    labels = "".join(f"s{i:03d},{classes[targets[i]]},P{i // 2}\n" for i in range(n))
    (folder / "labels.csv").write_text("slide_id,label,patient_id\n" + labels)
    return targets, p


def out_of_fold(folder, classes=("benign", "tumour"), n=60, seed=0, better=1.0, task="class"):
    """A model folder's out_of_fold.csv; the truth depends on `n` only. Gives the truth and the probabilities."""
    targets = np.random.default_rng(n).integers(0, len(classes), n)
    logits = np.random.default_rng(seed).normal(size=(n, len(classes))) + better * np.eye(len(classes))[targets]
    p = np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 6)
    head = f"slide_id,patient_id,site,fold,label,{task},{','.join(f'p_{name}' for name in classes)},calibrated\n"
    rows = [
        f"s{i:03d},P{i // 2},,{i // 2 % 3},{classes[targets[i]]},{classes[p[i].argmax()]},"
        f"{','.join(str(v) for v in p[i])},yes\n"
        for i in range(n)
    ]
    folder.mkdir(exist_ok=True)
    (folder / "out_of_fold.csv").write_text(head + "".join(rows))
    return targets, p
