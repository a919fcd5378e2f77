"""Constants (A, B) of the propensity of labels (Jain et al., KDD 2016), by the origin of the data.

They are those of the Extreme Classification Repository; `data.texts.propensity` has the formula.
"""

WIKIPEDIA = (0.5, 0.4)
AMAZON = (0.6, 2.6)
DEFAULT = (0.55, 1.5)
