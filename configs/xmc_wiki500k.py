"""Wiki-500K: 1,779,881 + 769,421 Wikipedia articles, 501,070 labels.

P@1/P@3/P@5 of the paper (their measurements): one encoder, 5630x89 groups, 78.38/59.53/46.04 (table 5); three encoders
79.74/60.90/47.21 (table 3). Others, one model each: LightXML 76.19/57.22/44.12; one-hot heads trained end to end, Renee
79.47/60.37/46.84 (RoBERTa-base) and ELMO bfloat16 78.61/60.04/46.59 (BERT-base, 256 tokens). Expected here: not run by
this project, for lack of the original files and a GPU. Hardware: one GPU.

    python main.py --config=configs/xmc_wiki500k.py:bert --config.data.path=Wiki-500K
"""

from mhe_jax.recipes.propensity import WIKIPEDIA
from mhe_jax.recipes.texts import make, recipe

SETTINGS = {"batch": 32, "max_length": 128, "eval_step": 3000, "candidates": 32, "hidden": 500, "valid": 4000}
RECIPES = {name: recipe(epochs=10, swa=(4, 3000), **SETTINGS) for name in ("bert", "roberta", "xlnet")}


def get_config(arg=""):
    data = {"path": "", "num_classes": 501070, "propensity": WIKIPEDIA}
    return make(arg, data=data, recipes=RECIPES, large=True, head_sizes=(5630, 89))
