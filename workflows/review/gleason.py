"""Gleason patterns and the grade group that they make.

Epstein et al.: The 2014 International Society of Urological Pathology (ISUP) Consensus Conference on Gleason Grading
of Prostatic Carcinoma, American Journal of Surgical Pathology 40, 2016. https://doi.org/10.1097/PAS.0000000000000530

    3+3 or less: 1    3+4: 2    4+3: 3    sum 8: 4    sum 9 or 10: 5
"""

GRADE_GROUPS = frozenset("012345")


def grade_group(primary: int, secondary: int) -> str:
    """The grade group of two patterns, "1" to "5"."""
    total = primary + secondary
    if total <= 6:
        return "1"
    if total == 7:
        return "2" if primary < secondary else "3"
    return "4" if total == 8 else "5"
