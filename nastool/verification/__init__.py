"""Measuring what was predicted: is a front what it seems, and what would make it so?"""

from nastool.verification.refinement import Refinement, refine
from nastool.verification.verification import Agreement, Verification, verify

__all__ = ["Agreement", "Refinement", "Verification", "refine", "verify"]
