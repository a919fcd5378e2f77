"""Constants (A, B) of the propensity of labels (Jain et al., KDD 2016), and which data set is measured with which.

`data.propensity` has the formula. Its constants were estimated on a data set of Wikipedia and on one of Amazon;
all others take their mean. Which is which is a matter of the evaluation scripts that papers ran. Those of AttentionXML
(You et al., NeurIPS 2019) and of pyxclib agree: WIKIPEDIA for Wiki-500K, AMAZON for Amazon-670K and Amazon-3M, and
DEFAULT for all others, EUR-Lex, Wiki10-31K and AmazonCat-13K among them. Some publications take AMAZON for
AmazonCat-13K too. A figure at other constants is another figure.
"""

WIKIPEDIA = (0.5, 0.4)
AMAZON = (0.6, 2.6)
DEFAULT = (0.55, 1.5)
