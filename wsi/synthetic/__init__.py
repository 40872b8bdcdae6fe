"""Seeded slides with known tissue, lesions and grade, for tests and demonstrations.

`write_slide` makes one, `make_cohort` a whole labelled cohort. The grade is in the architecture (well-formed glands,
fused glands, sheets); colour says more about the site than about the grade. A slide is drawn block by block from
numbers that depend on the place alone, so that memory does not grow with its size.
"""

from wsi.synthetic.artefacts import Artefact, Marker
from wsi.synthetic.cohort import CohortSlide, make_cohort
from wsi.synthetic.slides import write_slide
from wsi.synthetic.truth import SlideTruth, isup_grade, patterns_of

__all__ = [
    "Artefact", "CohortSlide", "Marker", "SlideTruth", "isup_grade", "make_cohort", "patterns_of", "write_slide",
]  # fmt: skip
